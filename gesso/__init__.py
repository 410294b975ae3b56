"""gesso: container images in which ComfyUI serves Krita, pinned and verified to the byte."""

__version__ = "0.1.0"
