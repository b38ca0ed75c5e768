"""What may happen to a base LLM before adapters: continued pretraining, pruning, dropping of layers, distilling."""
