"""Scores from questions and an answering model."""
