"""Models and data over time: updates, promotion of challengers, forgetting."""
