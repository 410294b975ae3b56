"""gesso: container images in which ComfyUI serves Krita, pinned and verified to the byte."""

from typing import Final

__version__: Final = "0.1.0"
