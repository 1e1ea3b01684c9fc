"""Losses for distillation, localisation, reliability and alignment."""
