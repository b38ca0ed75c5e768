"""Setting of the unlabelled pairs."""

from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import CountOrZero

UnlabelledPairs = Annotated[CountOrZero, Field(default=0)]
"""The parameter `history.prompt_rows.unlabelled`: pairs of items that users had not taken."""
