"""Settings of MTL-LoRA, in parameters and in PEFT's configuration."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from reclora_kedro.adapters.registry import LoraSettings
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


SETTINGS = TypeAdapter(MtlLoraSettings)
