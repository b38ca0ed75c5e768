"""HLLM as a retriever: a causal transformer over the texts of a history (Chen et al. 2024, arXiv 2409.12740)."""
