"""The registry of adapter methods, settings that their adapters share, and those of the export of users' LoRAs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, TypeAdapter, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.adapters.base import AdapterMethod, AdapterSettings
from reclora_kedro.extensions import Registry
from reclora_kedro.extras import missing_extra
from reclora_kedro.parameters import Count, Id, Positive

METHODS = Registry("reclora_kedro.adapters", ("reclora",))
"""Modules for the values of ``adapter.method``, each with an `AdapterMethod` as ``METHOD``."""

DEFAULT = "reclora"


def adapter_method(name: str) -> AdapterMethod:
    """Return the adapter method of this name; raise ValueError for an unknown one."""
    return METHODS.load(name).METHOD


def read_settings(block: Any) -> AdapterSettings:
    """Return the settings in a block of parameters; raise ValueError for unknown ones, or if PEFT is not installed."""
    if text := missing_extra("llm", "An adapter"):
        without = "ranking.variant=null" + ",ranking.lens=false" * bool(missing_extra("lens", ""))
        raise ValueError(f"without an LLM, set the `variant` of the step to null (`--params {without}`). {text}")
    method = block.get("method", DEFAULT) if isinstance(block, Mapping) else getattr(block, "method", DEFAULT)
    return TypeAdapter(adapter_method(str(method)).settings).validate_python(block)


Settings = Annotated[AdapterSettings, PlainValidator(read_settings)]
"""Type of a pydantic field with the settings of an adapter of any method."""


def require_gate_input(settings: AdapterSettings, gate_input: str) -> None:
    """Raise ValueError for a gate input that the gates of a method cannot read."""
    expected = adapter_method(settings.method).gate_input
    if not gate_input.startswith(expected):
        raise ValueError(
            f"gate_input is {gate_input!r}, but adapters of the method {settings.method!r} read {expected}<name>, a "
            "field of users or items whose values are the tasks: name one, such as field:genres"
        )


@dataclass
class LoraSettings:
    """Settings of any LoRA; conf/base explains each field."""

    r: Count = 8
    lora_alpha: Positive = 16
    target_modules: Annotated[list[str] | set[str] | str, Field(min_length=1)] = field(
        default_factory=lambda: ["q_proj", "v_proj"]
    )
    last_layers: Count | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.target_modules, str) or self.target_modules == "auto":
            return
        try:
            re.compile(self.target_modules)
        except re.error as error:
            raise ValueError(
                f"target_modules is {self.target_modules!r}, which is not a regular expression of layer paths "
                f"({error}): correct it, for example .*q_proj, or list names."
            ) from error
        if self.last_layers is not None:
            raise ValueError(
                f"last_layers is {self.last_layers}, but target_modules is a regular expression, which chooses layers "
                "itself: set last_layers to null, or list target_modules by name."
            )


class ExportConfig(Block):
    """Which users' LoRAs to export, and from which adapter."""

    variant: str = Field(min_length=1)
    users: tuple[Id, ...] | None
    most_active: Count | None

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.users is None) == (self.most_active is None) or self.users == ():
            raise ValueError(
                f"export.users is {self.users} and export.most_active is {self.most_active}: give at least one id "
                "under users, or a number as most_active, and set the other one to null"
            )
        return self
