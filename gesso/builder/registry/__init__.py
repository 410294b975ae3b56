"""Images in registries and engines: read, pushed, tagged and read back."""
