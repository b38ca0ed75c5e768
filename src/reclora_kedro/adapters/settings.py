"""Settings that all LoRA methods share, and those of the export of users' LoRAs."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, Id, Positive


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
                f"target_modules is {self.target_modules!r}, a text, but no regular expression of layers' paths "
                f"({error}): correct it, such as .*q_proj, or list names."
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
