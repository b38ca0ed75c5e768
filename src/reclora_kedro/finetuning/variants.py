"""A variant: one adapter to train and compare, and what its gates read."""

from reclora_kedro.adapters import methods
from reclora_kedro.finetuning.training import TrainingConfig
from reclora_kedro.lens.config import StateKind
from reclora_kedro.llm.answer_model import Blend
from reclora_kedro.parameters import Block


class VariantConfig(Block):
    """One adapter to train and compare: what its prompts show, what its gates read, what it is, and how it learns."""

    history: str
    gate_input: StateKind
    blend: Blend = "none"
    adapter: methods.Settings
    training: TrainingConfig
