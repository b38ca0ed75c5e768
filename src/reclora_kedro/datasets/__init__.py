"""Kedro datasets that no package offers: a base LLM, folders of files that belong together, and checkpoints."""
