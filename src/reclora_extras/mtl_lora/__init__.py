"""MTL-LoRA as one of the project's adapter methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reclora_extras.mtl_lora.settings import MtlLoraSettings
from reclora_kedro.adapters.base import PersonalizedMethod

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from reclora_extras.mtl_lora.model import MtlLoraConfig


class MtlLora(PersonalizedMethod):
    """A LoRA of many tasks, which are the values of a field, see `MtlLoraSettings`."""

    name = "mtl_lora"
    settings = MtlLoraSettings
    gate_input = "field:"

    def config_class(self) -> type[MtlLoraConfig]:
        """Its PEFT configuration class."""
        from reclora_extras.mtl_lora.model import MtlLoraConfig

        return MtlLoraConfig

    def has_gates(self, config: MtlLoraConfig | MtlLoraSettings) -> bool:
        """Whether there may be several tasks: settings do not know their number, ``gate_dim``."""
        return getattr(config, "gate_dim", None) != 1

    def keeps_statistics(self, settings: MtlLoraSettings) -> bool:
        """Return True: an adapter keeps the frequencies of tasks."""
        return True

    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        """Return the weights of the up projections, shape (batch, N)."""
        import torch

        tuner, name = adapted.base_model, adapted.active_adapter
        with torch.no_grad():
            shares = tuner.gate_weights(gate_inputs)
            if shares is None:
                return None
            layers = tuner.adapted_layers(name)
            return shares[0] @ torch.stack([layer.weights_of_tasks(name) for layer in layers]).mean(dim=0)


METHOD = MtlLora()
