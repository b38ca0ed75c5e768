"""The LLM engine: loading a base LLM, prompts, batches, embeddings, training and scoring."""
