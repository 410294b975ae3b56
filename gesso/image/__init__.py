"""The builder wing: from manifest and lock to an image on an engine."""
