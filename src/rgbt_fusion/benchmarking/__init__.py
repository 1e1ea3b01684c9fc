"""Microbenchmarks of ops, blocks and layers: how they are timed, compared and recorded."""
