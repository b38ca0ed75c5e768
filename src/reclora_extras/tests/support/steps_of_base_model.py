"""Settings of a tiny preparation of a base LLM, and LLMs and prompts for it."""

from dataclasses import replace

import numpy as np

from random_llama import random_llama
from reclora_extras.base_models.config import BaseModelConfig, DropLayersConfig, TuningConfig
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat

ANSWERS = PromptFormat(start=[], before="", after="", positive=40, negative=41)
TOKENS = 100


def tuning(**settings):
    return TuningConfig(**{"lora_rank": None, "epochs": 1, "learning_rate": 1e-2} | settings)


def config(**blocks):
    settings = {
        "steps": ["drop_layers"], "tokens_per_batch": TOKENS, "seed": 0,
        "drop_layers": DropLayersConfig(layers=2, importance="taylor"),
        "recovery": tuning(epochs=0),
    }  # fmt: skip
    return BaseModelConfig(**settings | blocks)


def random_llm(tiny_llm, layers=6):
    """A random LLM in float64 with 64 tokens."""
    return replace(tiny_llm, model=random_llama(layers).double().requires_grad_(False))


def some_prompts(count=12, limit=9):
    """Prompts of a few random tokens, whose last one tells the label."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    token_ids = [[*random.integers(3, 40, random.integers(2, limit)).tolist(), 50 + int(label)] for label in labels]
    return PromptSet(np.arange(count), token_ids, labels)
