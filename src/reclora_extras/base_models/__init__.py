"""Preparation of a base LLM before adapters: pruning, dropping of layers."""
