"""Tools for gesso's own development: tests, coverage, the architecture picture. Not in the image's wheel."""
