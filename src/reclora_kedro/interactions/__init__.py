"""Interactions: raw tables to the canonical ones, and the splits over them."""
