"""The suites of this project: whole trackers, complexity, start-up, and the published tables."""
