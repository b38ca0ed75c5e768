"""RecLoRA as a PEFT method: what PEFT needs of it is imported at the first use, and makes PEFT know it like its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reclora_kedro.adapters.base import PersonalizedMethod
from reclora_kedro.adapters.reclora.settings import RecLoraSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from reclora_kedro.adapters.lora import UserLoras
    from reclora_kedro.adapters.reclora.model import RecLoraConfig, RecLoraLayer, RecLoraModel

__all__ = ["METHOD", "RecLoraConfig", "RecLoraLayer", "RecLoraModel"]


class RecLora(PersonalizedMethod):
    """Personalized LoRA: meta-LoRAs that gates mix per sample, see `RecLoraSettings`."""

    name = "reclora"
    settings = RecLoraSettings
    measures = ("gate_entropy",)
    exports_loras = True

    def config_class(self) -> type[RecLoraConfig]:
        from reclora_kedro.adapters.reclora.model import RecLoraConfig

        return RecLoraConfig

    def keeps_statistics(self, settings: RecLoraSettings) -> bool:
        return settings.num_meta_loras > 1 and settings.gate_norm == "standard"

    def has_gates(self, config: RecLoraConfig) -> bool:
        return config.num_meta_loras > 1

    def measure(self, adapted: PeftModel, gate_inputs: Tensor) -> dict[str, float]:
        """Return the gates' mean entropy as a share of log N, ``gate_entropy``; nothing without gates."""
        import torch

        from reclora_kedro.adapters.reclora.model import gate_entropy

        with torch.no_grad():
            weights = adapted.base_model.gate_weights(gate_inputs)
            return {} if weights is None else {"gate_entropy": gate_entropy(weights).mean().item()}

    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        import torch

        with torch.no_grad():
            weights = adapted.base_model.gate_weights(gate_inputs)
            return None if weights is None else weights.mean(dim=0)

    def user_loras(self, adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
        from reclora_kedro.adapters.reclora.export import user_loras

        return user_loras(adapted, user_states, user_ids, note)


METHOD = RecLora()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reclora_kedro.adapters.reclora import model

    return getattr(model, name)
