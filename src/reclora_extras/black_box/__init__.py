"""Ask an LLM behind an API, with hints of the lens, after BLADE (arXiv 2403.18365)."""
