"""The ComfyUI version whose routes and node classes were recorded; the suffix marks the stand-in."""

__version__ = "0.33.0+standin"
