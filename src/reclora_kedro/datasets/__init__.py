"""Kedro datasets that no package offers: a base LLM, PEFT adapters one by one or as a folder, and checkpoints."""
