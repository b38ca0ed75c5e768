"""Types and functions that baselines share."""

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.sparse import csr_array

CHOOSING_CUTOFF = 10  # of the NDCG that chooses settings
Scorer = Callable[[pl.DataFrame], np.ndarray]
"""Function from pairs with item_index, user_index, history_end and timestamp to scores, shape (pairs,)."""


def score_table(questions: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Return a frame of row and score, from questions and scores of shape (n,)."""
    return questions.select("row", score=pl.Series(scores, dtype=pl.Float64))


def ndcg_of_likes(scores: np.ndarray, seen: csr_array, target: np.ndarray) -> float:
    """Return the NDCG@10 of targets, (n,), among unseen items by scores (n, items); ties rank first."""
    own = scores[np.arange(len(target)), target][:, None]
    is_above = scores >= own
    is_above[seen.nonzero()] = False
    rank = is_above.sum(axis=1)
    return float(np.sum((rank <= CHOOSING_CUTOFF) / np.log2(1 + rank)))
