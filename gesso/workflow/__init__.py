"""Graphs of nodes: what they say, and whether the models, latents and VAEs in them belong together."""
