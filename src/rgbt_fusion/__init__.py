"""Fusion layers for RGB-thermal tracking."""

__version__ = "0.1.0"
