"""A small server that answers like ComfyUI, to build and test an image where ComfyUI can't be downloaded."""
