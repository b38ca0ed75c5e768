"""The registry of adapter methods, and the settings of their adapters."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, TypeAdapter

from reclora_kedro.adapters.base import AdapterMethod, AdapterSettings
from reclora_kedro.extensions import Registry
from reclora_kedro.extras import missing_extra

METHODS = Registry("reclora_kedro.adapters", ("reclora",))
"""Modules for the values of ``adapter.method``, each with an `AdapterMethod` as ``METHOD``."""

DEFAULT = "reclora"


def adapter_method(name: str) -> AdapterMethod:
    """Return the adapter method of this name; raise ValueError for an unknown one."""
    return METHODS.load(name).METHOD


def read_settings(block: Any) -> AdapterSettings:
    """Return the settings in a block of parameters; raise ValueError for unknown ones, or if PEFT is not installed."""
    if text := missing_extra("llm", "An adapter"):
        raise ValueError(text)
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
