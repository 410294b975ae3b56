"""Images in registries and engines: read, push, tag and read back."""
