"""What the scores say: metrics, significance, figures and the report."""
