"""The ComfyUI version whose routes and node classes were recorded; the suffix tells that this is not it."""

__version__ = "0.33.0+standin"
