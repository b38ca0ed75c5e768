"""Prediction of an LLM that only counts the likes in its prompt."""

import polars as pl

from reclora_kedro.baselines.base import score_table
from reclora_kedro.evaluation.styles import Style

NOTE = "the share of likes among the events in the prompt of the untrained LLM, whatever the items are"
LABEL = "share of likes in the prompt"
STYLE = Style("#A6324B", "triangle-down", "longdash")


def scores(prompts: pl.DataFrame) -> pl.DataFrame:
    """Return probabilities of a like by the rule of succession; one half without events.

    Examples:
        >>> prompts = pl.DataFrame({"row": [5, 3], "shown_history": [["Heat", "Big"], []], "shown_likes": [2, 0]})
        >>> scores(prompts)["score"].to_list()
        [0.75, 0.5]
    """
    share = (pl.col("shown_likes") + 1) / (pl.col("shown_history").list.len() + 2)
    return score_table(prompts, prompts.select(share).to_series().to_numpy())
