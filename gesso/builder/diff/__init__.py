"""`invoke diff`: what lies between two images."""
