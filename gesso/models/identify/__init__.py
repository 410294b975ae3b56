"""Identify a model file by its header alone: format, kind, family, latent channels. Pure."""
