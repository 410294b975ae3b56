"""What a model file is, by its header alone: format, kind, family, latent channels. Pure."""
