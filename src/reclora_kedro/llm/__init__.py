"""The LLM: loading, prompts, batches, embeddings and answers."""
