"""Types and functions that baselines share."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import numpy as np
import polars as pl
from scipy.sparse import csr_array

CHOOSING_CUTOFF = 10  # of the NDCG that chooses settings
SCORES_AT_ONCE = 2**22  # of all items for several likes: 16 MiB
Setting = TypeVar("Setting", bound=Hashable)
Scorer = Callable[[pl.DataFrame], np.ndarray]
"""Function from pairs with item_index, user_index, history_end and timestamp to scores, shape (pairs,)."""


def score_table(questions: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Return a frame of row and score, from questions and scores of shape (n,)."""
    return questions.select("row", score=pl.Series(scores, dtype=pl.Float64))


def ndcg_of_likes(scores: np.ndarray, seen: csr_array, target: np.ndarray) -> float:
    """Return the sum of NDCG@10 over targets, (n,), among unseen items by scores (n, items); ties rank first."""
    own = scores[np.arange(len(target)), target][:, None]
    is_above = scores >= own
    is_above[seen.nonzero()] = False
    rank = is_above.sum(axis=1)
    return float(np.sum((rank <= CHOOSING_CUTOFF) / np.log2(1 + rank)))


def ndcg_of_settings(
    scores: Callable[[slice], Iterable[tuple[Setting, np.ndarray]]], seen: csr_array, target: np.ndarray
) -> dict[Setting, float]:
    """Return the NDCG@10 of each setting, see `ndcg_of_likes`, from blocks of likes that bound the memory.

    Args:
        scores: function from some rows of the likes to each setting and its scores, shape (rows, items).
    """
    total, step = defaultdict[Setting, float](float), max(1, SCORES_AT_ONCE // seen.shape[1])
    for start in range(0, len(target), step):
        rows = slice(start, start + step)
        for setting, of_rows in scores(rows):
            total[setting] += ndcg_of_likes(of_rows, seen[rows], target[rows])
    return total
