"""PEFT's configuration of the personalized LoRA."""

from dataclasses import dataclass, fields
from enum import StrEnum

from reclora_kedro.adapters.reclora.settings import SETTINGS, RecLoraSettings
from reclora_kedro.adapters.tuner import PersonalizedConfig


class RecLoraType(StrEnum):
    """PEFT's name of the method, like a member of its `PeftType`, whose value appears in its error messages."""

    RECLORA = "RECLORA"


@dataclass
class RecLoraConfig(RecLoraSettings, PersonalizedConfig):
    """PEFT configuration of a personalized LoRA: its settings and what it is trained on.

    Examples:
        >>> RecLoraConfig(num_meta_loras=8, gate_dim=128).composition
        'product_of_sums'
        >>> RecLoraConfig(num_meta_loras=8)
        Traceback (most recent call last):
        ...
        ValueError: gate_dim is None, but 8 meta-LoRAs are routed by gates: give the width of their inputs.
    """

    def __post_init__(self) -> None:
        PersonalizedConfig.__post_init__(self)
        self.peft_type = RecLoraType.RECLORA
        SETTINGS.validate_python({entry.name: getattr(self, entry.name) for entry in fields(RecLoraSettings)})
        if self.num_meta_loras > 1 and self.gate_dim is None:
            raise ValueError(
                f"gate_dim is None, but {self.num_meta_loras} meta-LoRAs are routed by gates: give the width of their "
                "inputs."
            )
