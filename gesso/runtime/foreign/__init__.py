"""Self-heal on an instance that gesso did not make: find its ComfyUI, and repair what Krita needs."""
