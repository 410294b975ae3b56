"""Intent (manifests) and lock: what an image is made of, as frozen data."""
