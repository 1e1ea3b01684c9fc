"""Frames of both modalities: their types, reading, cropping, thermal scaling and drawing."""
