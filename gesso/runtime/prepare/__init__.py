"""What is checked and laid out before anything starts."""
