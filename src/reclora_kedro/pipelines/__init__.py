"""Pipelines, one package each with nodes and wiring; installed packages add others.

Nodes import what needs torch, scikit-learn, plotly or pandera in their functions, so that a plan imports none of them.
"""
