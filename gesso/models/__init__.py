"""Model files: identify, fetch, verify and store them."""
