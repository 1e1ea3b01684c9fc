"""Benchmarks that run from a checkout: whole trackers, complexity, start-up and the study."""
