"""Kedro datasets that no package offers: a base LLM, a training's checkpoints, PEFT adapters and folders of them."""
