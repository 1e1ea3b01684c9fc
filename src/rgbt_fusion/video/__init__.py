"""Pairs of frames from videos, folders and cameras, and pictures of what a tracker does."""
