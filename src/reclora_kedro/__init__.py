"""RecLoRA for Kedro: a recommender from a large language model with personalized low-rank adaptation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reclora_kedro.api import Recommender

__all__ = ["Recommender"]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        from reclora_kedro.api import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
