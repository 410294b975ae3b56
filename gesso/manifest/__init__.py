"""Manifests (the intent) and locks: what an image consists of, as frozen data."""
