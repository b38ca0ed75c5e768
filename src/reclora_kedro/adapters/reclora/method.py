"""RecLoRA as one of the project's adapter methods."""

from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from reclora_kedro.adapters.base import AdapterMethod, TrainedOn
from reclora_kedro.adapters.base_llm import attention_projections, require_target_modules
from reclora_kedro.adapters.reclora.config import RecLoraConfig, RecLoraSettings
from reclora_kedro.adapters.reclora.export import UserLoras, user_loras
from reclora_kedro.adapters.reclora.gates import gate_entropy


class RecLora(AdapterMethod):
    """Personalized LoRA: meta-LoRAs that gates mix per sample, see `RecLoraSettings`."""

    name = "reclora"
    settings = RecLoraSettings
    measures = ("gate_entropy",)
    exports_loras = True

    def require(self, model: Any, settings: RecLoraSettings) -> None:
        """Refuse target modules that are no linear layers in blocks of the base LLM."""
        require_target_modules(model, settings.target_modules)

    def peft_config(self, model: Any, settings: RecLoraSettings, trained_on: TrainedOn) -> RecLoraConfig:
        """What PEFT makes a fresh adapter of; ``auto`` is the attention's own layers."""
        values = asdict(settings) | asdict(trained_on)
        if settings.target_modules == "auto":
            values["target_modules"] = attention_projections(model)
        return RecLoraConfig(task_type="CAUSAL_LM", **values)

    def prepare(self, adapted: PeftModel, gate_inputs: Tensor) -> None:
        """Have the gates standardise their inputs by these."""
        adapted.base_model.standardize_inputs(gate_inputs)

    def has_gates(self, config: RecLoraConfig) -> bool:
        """Whether there are several meta-LoRAs to route."""
        return config.num_meta_loras > 1

    def context(self, adapted: PeftModel, gate_inputs: Tensor | None) -> AbstractContextManager[None]:
        """See `RecLoraModel.gate_context`."""
        return adapted.base_model.gate_context(gate_inputs)

    @torch.no_grad()
    def measure(self, adapted: PeftModel, gate_inputs: Tensor) -> dict[str, float]:
        """The gates' mean entropy, ``gate_entropy``, as a share of log N; nothing where there are no gates."""
        weights = adapted.base_model.gate_weights(gate_inputs)
        return {} if weights is None else {"gate_entropy": gate_entropy(weights).mean().item()}

    @torch.no_grad()
    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        """The weights of the meta-LoRAs, shape (batch, N)."""
        weights = adapted.base_model.gate_weights(gate_inputs)
        return None if weights is None else weights.mean(dim=0)

    def user_loras(self, adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
        """See `export.user_loras`."""
        return user_loras(adapted, user_states, user_ids, note)
