"""Settings of the export of users' LoRAs."""

from typing import Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, Id


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
