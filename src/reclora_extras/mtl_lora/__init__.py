"""MTL-LoRA as one of the project's adapter methods; its settings are those of the parameters and of PEFT, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from reclora_kedro.adapters.base import PersonalizedMethod
from reclora_kedro.adapters.registry import LoraSettings
from reclora_kedro.parameters import Count, Positive

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from reclora_extras.mtl_lora.model import MtlLoraConfig


@dataclass
class MtlLoraSettings(LoraSettings):
    """Settings of a LoRA of many tasks (MTL-LoRA, arXiv 2410.09437, section 3.2).

    Every adapted projection has one ``A`` (r × in) and ``num_up_projections`` matrices ``B_j`` (out × r) that all
    tasks share, and for each task t a transformation Λ_t (r × r) and scores w_t. The update is
    Σ_j softmax(w_t / temperature)_j B_j Λ_t A; if ``separate``, it is B_t A_t. Defaults are those of the paper;
    the README explains the fields.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    method: Literal["mtl_lora"] = "mtl_lora"
    num_up_projections: Count = 3
    temperature: Positive = 0.1
    separate: bool = False


SETTINGS = TypeAdapter(MtlLoraSettings)


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
