"""What an image must be, as plain functions over its snapshot: each returns the problems that it found."""
