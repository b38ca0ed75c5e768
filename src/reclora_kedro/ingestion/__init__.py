"""Interactions: canonical tables from raw ones."""
