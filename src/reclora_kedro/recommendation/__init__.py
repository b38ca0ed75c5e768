"""Recommendations: candidates, their ranking, and ranking metrics."""
