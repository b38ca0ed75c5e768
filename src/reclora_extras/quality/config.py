"""Setting of the selection by quality."""

from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import Count

CandidatesPerRow = Annotated[Count, Field(default=2)]
"""The parameter `few_shot.candidates_per_row`: rows drawn for each one that is kept."""
