"""Fusion layers: one paper idea a file."""
