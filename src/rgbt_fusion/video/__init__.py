"""Frames in from anything that shows both modalities, and pictures of what a tracker does with
them."""
