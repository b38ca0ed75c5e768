"""Evaluation of scores: metrics, significance, figures and the report."""
