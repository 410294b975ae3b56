"""`invoke publish`: a checked image goes to a registry and is read back."""
