"""Datasets on disk and training clips, as they are and from the synthetic world; no networks."""
