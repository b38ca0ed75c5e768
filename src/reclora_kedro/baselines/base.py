"""What baselines have in common."""

from collections.abc import Callable

import numpy as np
import polars as pl

Scorer = Callable[[pl.DataFrame], np.ndarray]
"""From pairs with item_index, user_index, history_end and timestamp to their scores, shape (pairs,)."""


def score_table(questions: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Rows of questions and their scores, shape (n,), as a baseline's ``scores`` returns them."""
    return questions.select("row", score=pl.Series(scores))
