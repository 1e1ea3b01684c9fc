"""Sequences, training pairs and the synthetic world."""
