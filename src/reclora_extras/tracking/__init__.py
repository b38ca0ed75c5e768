"""Experiment tracking: what runs have left, logged to MLflow; see docs/guides/track-experiments.md."""
