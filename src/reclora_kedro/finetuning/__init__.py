"""Fine-tuning: variants of adapters, their training, its checkpoints and processes."""
