"""What an image must be, as plain functions over a photograph of it: each gives the problems that it found."""
