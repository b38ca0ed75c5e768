"""Settings of the personalized LoRA, used for the parameters and for PEFT's ``adapter_config.json``."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from reclora_kedro.adapters.registry import LoraSettings
from reclora_kedro.parameters import Count, Positive, Share


@dataclass
class RecLoraSettings(LoraSettings):
    """Settings of a personalized LoRA (RecLoRA, arXiv 2408.03533, section 3.3).

    Every adapted projection holds ``num_meta_loras`` pairs ``A_k`` (r × in), ``B_k`` (out × r); a gate turns a
    sample's gate input into weights α_k over them. The update is (Σ α_k B_k)(Σ α_k A_k), as in the authors' code, or
    Σ α_k B_k A_k, as in the paper's formula. With one meta-LoRA there is no gate, and the adapter is a plain LoRA.
    conf/base explains each field, and sets ``composition`` and ``last_layers`` to other values than these defaults; the
    paper's settings stand in conf/baselines.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    method: Literal["reclora"] = "reclora"
    num_meta_loras: Count = 8
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
        if self.top_k == 1 < self.num_meta_loras:
            raise ValueError(
                "top_k is 1, but the weight of a single meta-LoRA is always 1, so the gates would never learn: set it "
                "to 2 or more, or num_meta_loras to 1."
            )
        super().__post_init__()


SETTINGS = TypeAdapter(RecLoraSettings)
