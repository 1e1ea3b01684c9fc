"""The Triton kernels, and the backend that launches them."""
