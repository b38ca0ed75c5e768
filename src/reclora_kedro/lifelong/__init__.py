"""Models and data over time: updates, the promotion of a challenger, forgetting."""
