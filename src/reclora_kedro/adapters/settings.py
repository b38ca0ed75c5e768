"""Settings that all LoRA methods share."""

import re
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import Count, Positive


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
