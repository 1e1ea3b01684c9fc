"""Benchmarks that run from a checkout: whole trackers, complexity, start-up and the study."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
