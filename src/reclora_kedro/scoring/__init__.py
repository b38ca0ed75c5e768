"""From questions and an answering model to scores."""
