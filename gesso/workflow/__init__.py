"""Workflow graphs: parse them, and check whether their models, latents and VAEs are compatible."""
