"""Preparation of a base LLM before adapters: pretraining, pruning, dropping of layers, distilling."""
