"""Fusion layers: one paper idea per file."""
