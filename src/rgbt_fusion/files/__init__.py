"""Files: written whole, read without trusting them."""
