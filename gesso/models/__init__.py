"""Model files: what they are, by their own bytes."""
