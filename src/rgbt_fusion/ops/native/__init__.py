"""The compiled CPU kernels: C sources, and the backend that calls them."""
