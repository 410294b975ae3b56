"""Build an image from a manifest and its lock, and test it against the image contract."""
