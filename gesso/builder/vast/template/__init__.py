"""The template at Vast.ai: derived from manifest, lock and image; the old one stays until the new one is proven."""
