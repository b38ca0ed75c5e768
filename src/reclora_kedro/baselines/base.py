"""Types and functions that baselines share."""

from collections.abc import Callable

import numpy as np
import polars as pl

Scorer = Callable[[pl.DataFrame], np.ndarray]
"""Function from pairs with item_index, user_index, history_end and timestamp to scores, shape (pairs,)."""


def score_table(questions: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Return a frame of row and score, from questions and scores of shape (n,)."""
    return questions.select("row", score=pl.Series(scores))
