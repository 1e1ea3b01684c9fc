"""Trackers: from a box in the first frame to a box in every frame."""
