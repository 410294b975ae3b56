"""Tools for gesso's own development: tests, coverage, pictures. Not in the image's wheel."""
