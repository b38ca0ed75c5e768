"""Pipelines, one package each with nodes and wiring; installed packages add others."""
