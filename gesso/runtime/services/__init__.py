"""The programs of an instance, as gesso starts, asks and restarts them."""
