"""What rivals have in common."""

from collections.abc import Callable

import numpy as np
import polars as pl

Scorer = Callable[[pl.DataFrame], np.ndarray]
"""From pairs with item_index, user_index, history_end and timestamp to their scores, shape (pairs,)."""


def rows_of(prompt_rows: pl.DataFrame, use: str) -> np.ndarray:
    """Numbers of the prompt rows of a use: few_shot, validation or test."""
    return prompt_rows.filter(pl.col("use") == use)["row"].to_numpy()


def score_table(rows: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    """Rows and their scores, both of shape (n,), as a rival's ``scores`` returns them."""
    return pl.DataFrame({"row": rows, "score": scores}, schema_overrides={"row": pl.UInt32})
