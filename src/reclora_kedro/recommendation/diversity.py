"""Re-ranking of shortlists for diversity, by maximal marginal relevance."""

import numpy as np
import numpy.typing as npt
import polars as pl

VALUES_AT_ONCE = 2**24  # of items' vectors that are compared together: 128 MiB


def marginal_relevance(
    vectors: np.ndarray, lengths: npt.NDArray[np.integer], strengths: np.ndarray, limit: int
) -> npt.NDArray[np.intp]:
    """Return the places of the best items of many lists, the next best first (Carbonell and Goldstein, SIGIR 1998).

    After the items of S, the next one of a list is

        argmax over i of (1 - strength) / log2(1 + rank(i)) - strength max over j in S of v(i).v(j),

    where a list's order gives the ranks, so that scores of any scale do.

    Args:
        vectors: v of each list's items in order, of unit length or zero, shape (lists, n, d).
        lengths: number of items of each list, from 1 to n; what follows is padding.
        strengths: from 0, which keeps the order, to less than 1, shape (lists,).

    Returns:
        Shape (lists, min(limit, n)); beyond a list's length, places mean nothing.

    Examples:
        >>> vectors = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> marginal_relevance(vectors, np.array([3]), np.array([0.5]), limit=2)
        array([[0, 2]])
    """
    lists, n, _ = vectors.shape
    every = np.arange(lists)
    gain = (1 - strengths[:, None]) / np.log2(np.arange(n) + 2)
    gain[np.arange(n) >= lengths[:, None]] = -np.inf
    nearest = np.zeros((lists, n))
    chosen = np.empty((lists, min(limit, n)), dtype=np.intp)
    for step in range(chosen.shape[1]):
        best = chosen[:, step] = np.argmax(gain - strengths[:, None] * nearest, axis=1)
        gain[every, best] = -np.inf
        cosines = np.einsum("lnd,ld->ln", vectors, vectors[every, best])
        nearest = np.maximum(nearest, cosines) if step else cosines
    return chosen


def diversify(pairs: pl.DataFrame, vectors: np.ndarray, strength: float, limit: int) -> pl.DataFrame:
    """Keep the `limit` best pairs of each user by `marginal_relevance`; a fallback's stay in their order.

    Args:
        pairs: user_id, item_index and fallback, users together and the best items of each first.
        vectors: vectors of the items at unit length, shape (items, d).
    """
    if pairs.is_empty():
        return pairs
    user = pairs.select(pl.col("user_id").rle_id()).to_series().to_numpy()
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    lengths = np.diff(starts, append=len(user))
    strengths = np.where(pairs["fallback"].to_numpy()[starts], 0, strength)
    item, n = pairs["item_index"].to_numpy(), lengths.max()
    at_once = max(1, VALUES_AT_ONCE // (n * vectors.shape[1]))
    kept = []
    for first in range(0, len(starts), at_once):
        lists = slice(first, first + at_once)
        rows = starts[lists, None] + np.minimum(np.arange(n), lengths[lists, None] - 1)
        order = marginal_relevance(vectors[item[rows]], lengths[lists], strengths[lists], limit)
        is_item = np.arange(order.shape[1]) < lengths[lists, None]
        kept.append(np.take_along_axis(rows, order, axis=1)[is_item])
    return pairs[np.concatenate(kept)]
