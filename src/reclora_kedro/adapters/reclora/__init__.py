"""RecLoRA as a PEFT method: what PEFT needs of it is imported at the first use, and makes PEFT know it like its own."""

from typing import TYPE_CHECKING, Any

from reclora_kedro.adapters.reclora.method import RecLora

if TYPE_CHECKING:
    from reclora_kedro.adapters.reclora.model import RecLoraConfig, RecLoraLayer, RecLoraModel

__all__ = ["METHOD", "RecLoraConfig", "RecLoraLayer", "RecLoraModel"]

METHOD = RecLora()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reclora_kedro.adapters.reclora import model

    return getattr(model, name)
