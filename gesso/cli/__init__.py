"""The `gesso` command line."""
