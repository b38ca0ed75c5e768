"""A variant: one adapter to train and compare, and what its gates read."""

from pydantic import Field

from reclora_kedro.adapters.reclora.config import AdapterConfig
from reclora_kedro.finetuning.training import TrainingConfig
from reclora_kedro.lens.config import StateKind
from reclora_kedro.llm.answer_model import Blend
from reclora_kedro.parameters import Block


class VariantConfig(Block):
    """One adapter to train and compare: what its prompts show, what its gates read, what it is, and how it learns."""

    history: str = Field(description="name of the short history that its prompts show, one of history.short")
    gate_input: StateKind = Field(description="the state of the lens that its gates read")
    blend: Blend = Field(
        "none", description="none: scores are the LLM's; average: of the mean of its logit and the lens's"
    )
    adapter: AdapterConfig
    training: TrainingConfig
