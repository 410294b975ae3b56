"""From manifest and lock to an image on an engine, and the contract that the image is tested against."""
