"""Settings of the personalized LoRA: one list of fields for the parameters and for PEFT's ``adapter_config.json``."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from peft import PeftConfig
from pydantic import ConfigDict, Field, TypeAdapter

from reclora_kedro.adapters.base import TrainedOn
from reclora_kedro.parameters import Count, Positive, Share


@dataclass
class RecLoraSettings:
    """What may be set of a personalized LoRA (RecLoRA, arXiv 2408.03533, section 3.3).

    Every adapted projection holds ``num_meta_loras`` pairs ``A_k`` (r × in), ``B_k`` (out × r); a gate turns a
    sample's gate input into weights α_k over them. The update is (Σ α_k B_k)(Σ α_k A_k), as in the authors' code, or
    Σ α_k B_k A_k, as in the paper's formula. With one meta-LoRA there is nothing to route: there is no gate, and the
    adapter is a plain LoRA. Defaults are those of the paper; conf/base says what each field does.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    method: Literal["reclora"] = "reclora"
    num_meta_loras: Count = 8
    r: Count = 8
    lora_alpha: Positive = 16
    target_modules: Annotated[list[str] | set[str] | str, Field(min_length=1)] = field(
        default_factory=lambda: ["q_proj", "v_proj"]
    )
    last_layers: Count | None = None
    composition: Literal["product_of_sums", "sum_of_products"] = "product_of_sums"
    gate_hidden_dim: Count = 60
    gate_dropout: Share = 0.1
    gate_norm: Literal["standard", "layer"] = "standard"
    gate_scope: Literal["per_projection", "shared"] = "per_projection"
    temperature: Positive = 1.0
    top_k: Count | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k > self.num_meta_loras:
            raise ValueError(f"top_k is {self.top_k}; it must be at most num_meta_loras, {self.num_meta_loras}.")
        if self.last_layers is not None and isinstance(self.target_modules, str) and self.target_modules != "auto":
            raise ValueError(
                f"last_layers is {self.last_layers}, but target_modules is a regular expression, which chooses layers "
                "itself: set last_layers to null, or list target_modules by name."
            )


class RecLoraType(StrEnum):
    """What PEFT calls the method; a member like those of its own `PeftType`, whose value its refusals name."""

    RECLORA = "RECLORA"


@dataclass
class RecLoraConfig(RecLoraSettings, TrainedOn, PeftConfig):
    """A personalized LoRA as PEFT knows it: the settings, and what it is made for.

    Raises:
        ValueError: a value is outside its range; the message names the field.

    Examples:
        >>> RecLoraConfig(num_meta_loras=8, gate_dim=128).composition
        'product_of_sums'
        >>> RecLoraConfig(num_meta_loras=8)
        Traceback (most recent call last):
        ...
        ValueError: gate_dim is None, but 8 meta-LoRAs are routed by gates: give the width of their inputs.
    """

    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "layers to leave as they are, by name, or a regular expression of their paths"}
    )
    layers_to_transform: list[int] | None = field(
        default=None, metadata={"help": "numbers of the transformer layers to adapt, from 0; None: all"}
    )

    def __post_init__(self) -> None:
        PeftConfig.__post_init__(self)
        self.peft_type = RecLoraType.RECLORA
        SETTINGS.validate_python({entry.name: getattr(self, entry.name) for entry in fields(RecLoraSettings)})
        for name in ("target_modules", "exclude_modules"):
            if isinstance(getattr(self, name), list):
                setattr(self, name, set(getattr(self, name)))
        if self.num_meta_loras > 1 and self.gate_dim is None:
            raise ValueError(
                f"gate_dim is None, but {self.num_meta_loras} meta-LoRAs are routed by gates: give the width of their "
                "inputs."
            )

    def to_dict(self) -> dict[str, Any]:
        """The configuration, its sets as sorted lists: what is saved is the same in every process."""
        values = super().to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}


SETTINGS = TypeAdapter(RecLoraSettings)
