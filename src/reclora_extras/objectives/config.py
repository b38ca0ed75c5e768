"""Setting of the moments at which the LLM responds with titles of its own choice."""

from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import CountOrZero

UnlabelledPairs = Annotated[CountOrZero, Field(default=0)]
"""The parameter `history.prompt_rows.unlabelled`: pairs of titles that the LLM chooses itself, one per moment."""
