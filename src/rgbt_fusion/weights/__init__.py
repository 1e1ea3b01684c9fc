"""Weights in and out of files, and the trained weights that ship."""
