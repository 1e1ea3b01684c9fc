"""Losses for distillation and for localisation."""
