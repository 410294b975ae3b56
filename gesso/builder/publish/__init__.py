"""`invoke publish`: push a tested image to a registry and read it back."""
