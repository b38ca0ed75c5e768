"""Preparation of a base LLM before adapters: dropping of layers."""
