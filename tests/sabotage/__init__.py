"""Bad images, and the tests that must catch them."""
