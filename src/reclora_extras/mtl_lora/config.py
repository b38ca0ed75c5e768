"""PEFT's configuration of MTL-LoRA."""

from dataclasses import dataclass, fields
from enum import StrEnum

from reclora_extras.mtl_lora.settings import SETTINGS, MtlLoraSettings
from reclora_kedro.adapters.tuner import PersonalizedConfig


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
