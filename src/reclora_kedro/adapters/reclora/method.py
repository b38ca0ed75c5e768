"""RecLoRA as one of the project's adapter methods."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from reclora_kedro.adapters.reclora.config import RecLoraConfig, RecLoraSettings
from reclora_kedro.adapters.reclora.export import user_loras
from reclora_kedro.adapters.reclora.gates import gate_entropy
from reclora_kedro.adapters.tuner import PersonalizedMethod
from reclora_kedro.adapters.user_loras import UserLoras


class RecLora(PersonalizedMethod):
    """Personalized LoRA: meta-LoRAs that gates mix per sample, see `RecLoraSettings`."""

    name = "reclora"
    settings = RecLoraSettings
    config = RecLoraConfig
    measures = ("gate_entropy",)
    exports_loras = True

    def keeps_statistics(self, settings: RecLoraSettings) -> bool:
        return settings.num_meta_loras > 1 and settings.gate_norm == "standard"

    def has_gates(self, config: RecLoraConfig) -> bool:
        return config.num_meta_loras > 1

    @torch.no_grad()
    def measure(self, adapted: PeftModel, gate_inputs: Tensor) -> dict[str, float]:
        """Return the gates' mean entropy as a share of log N, ``gate_entropy``; nothing without gates."""
        weights = adapted.base_model.gate_weights(gate_inputs)
        return {} if weights is None else {"gate_entropy": gate_entropy(weights).mean().item()}

    @torch.no_grad()
    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        weights = adapted.base_model.gate_weights(gate_inputs)
        return None if weights is None else weights.mean(dim=0)

    def user_loras(self, adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
        return user_loras(adapted, user_states, user_ids, note)
