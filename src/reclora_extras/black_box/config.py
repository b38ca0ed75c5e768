"""Settings of the black box and of the search for hints."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_extras.black_box.chat_api import USAGE
from reclora_kedro.parameters import Count, EachOnce, NonNegative, Seed

RESERVED = {"trial", "auc", "model", "price", *USAGE, "prompt", "target", "verdict", "liked", "disliked", "statistics"}
"""Names that mean something else in a trial or in a template of a hint."""


class SearchConfig(Block):
    """Budget of the search for hints."""

    rows: Count | None
    calls: Count


class PriceConfig(Block):
    """Prices of a million tokens."""

    prompt: NonNegative
    completion: NonNegative


class BlackBoxConfig(Block):
    """Questions for a black box, and hints to try."""

    template: str
    history: str
    max_characters: Count
    hints: dict[str, Annotated[tuple[bool | int | float | str, ...], Field(min_length=1)] | None]
    search: SearchConfig
    rows: Count | None
    beside: Annotated[tuple[str, ...], EachOnce]
    price: PriceConfig
    seed: Seed

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Options of the search by name."""
        return {name: values for name, values in self.hints.items() if values is not None}

    @model_validator(mode="after")
    def _hints_name_templates(self) -> Self:
        if "template" not in self.choices:
            raise ValueError("hints names no template: list texts of hint_templates under hints.template")
        if reserved := self.choices.keys() & RESERVED:
            raise ValueError(
                f"hints names {min(reserved)}, which means something else in trials and templates: rename it"
            )
        return self
