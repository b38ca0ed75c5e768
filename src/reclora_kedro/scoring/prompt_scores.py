"""How prompts are scored, and the table of their scores."""

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.parameters import Block, Count, Resource, Seed


class ScoringConfig(Block):
    """How prompts are scored."""

    tokens_per_batch: Resource[Count]
    permuted_rows: Annotated[Count, Field(ge=2)] | None
    seed: Seed


def score_table(prompts: PromptSet, scores: np.ndarray) -> pl.DataFrame:
    """One model's scores: row, label, score."""
    return pl.DataFrame(
        {"row": prompts.rows, "label": prompts.labels, "score": scores},
        schema={"row": pl.UInt32, "label": pl.Int8, "score": pl.Float64},
    )
