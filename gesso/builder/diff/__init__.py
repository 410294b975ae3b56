"""`invoke diff`: compare two images."""
