"""A variant: one adapter to train and compare."""

from typing import Self

from pydantic import model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.adapters import registry
from reclora_kedro.finetuning.config import TrainingConfig
from reclora_kedro.lens.config import GateInput
from reclora_kedro.llm.blend import Blend


class VariantConfig(Block):
    """Settings of a variant: its prompts' fields, its gate input, its adapter and its training."""

    history: str
    gate_input: GateInput = "target"
    blend: Blend = "none"
    adapter: registry.Settings
    training: TrainingConfig

    @model_validator(mode="after")
    def _gates_read_their_input(self) -> Self:
        registry.require_gate_input(self.adapter, self.gate_input)
        return self

    @model_validator(mode="after")
    def _adapter_keeps_privacy(self) -> Self:
        method = registry.adapter_method(self.adapter.method)
        if self.training.privacy.is_on and method.keeps_statistics(self.adapter):
            raise ValueError(
                "training.privacy hides users' gradients in noise, but the adapter would hold means of the few-shot "
                "rows besides: take the method reclora, and set adapter.gate_norm to layer, or num_meta_loras to 1"
            )
        return self
