"""Kedro datasets that no package offers: a base LLM, and a versioned PEFT adapter."""
