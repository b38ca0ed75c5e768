"""Settings of MTL-LoRA: one list of fields for the parameters and for PEFT's ``adapter_config.json``."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from reclora_kedro.adapters.tuner import LoraSettings, PersonalizedConfig
from reclora_kedro.parameters import Count, Positive


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


class MtlLoraType(StrEnum):
    """PEFT's name of the method."""

    MTL_LORA = "MTL_LORA"


@dataclass
class MtlLoraConfig(MtlLoraSettings, PersonalizedConfig):
    """PEFT's configuration of MTL-LoRA: the settings, and ``gate_dim``, the number of tasks.

    Raises:
        ValueError: a value is outside its range; the message names the field.
    """

    def __post_init__(self) -> None:
        PersonalizedConfig.__post_init__(self)
        self.peft_type = MtlLoraType.MTL_LORA
        SETTINGS.validate_python({entry.name: getattr(self, entry.name) for entry in fields(MtlLoraSettings)})
        if self.gate_dim is None or self.gate_dim < 1:
            raise ValueError(f"gate_dim is {self.gate_dim}, but it is the number of tasks: give at least 1.")

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        assert self.gate_dim is not None
        return self.gate_dim


SETTINGS = TypeAdapter(MtlLoraSettings)
