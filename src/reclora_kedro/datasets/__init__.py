"""Kedro datasets that no package offers: a base LLM, a versioned PEFT adapter, and a folder of users' adapters."""
