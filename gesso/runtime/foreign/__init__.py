"""Self-heal on an instance that gesso did not make: its ComfyUI is found there, and gets what Krita needs."""
