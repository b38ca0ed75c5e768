"""Drift since the current lens was trained: populations, scores, calibration and accuracy by week, with alarms."""
