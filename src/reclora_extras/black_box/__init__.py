"""An LLM behind an API answers questions with hints of the lens, after BLADE (arXiv 2403.18365)."""
