"""Re-ranking of shortlists for diversity, by maximal marginal relevance."""

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.candidates.moments import NO_ITEM, rows_of_lists
from reclora_kedro.history.retrieval import unit_vectors

VALUES_AT_ONCE = 2**24  # of items' vectors that are compared together: 128 MiB


def marginal_relevance(
    items: np.ndarray, vectors: np.ndarray, strength: npt.ArrayLike, limit: int
) -> npt.NDArray[np.intp]:
    """Return the places of the best items of many lists, the next best first (Carbonell and Goldstein, SIGIR 1998).

    After the items of S, the next one of a list is

        argmax over i of (1 - strength) / log2(1 + rank(i)) - strength max over j in S of cos(v(i), v(j)),

    where a list's order gives the ranks, so that scores of any scale do.

    Items are indices of each list's items in order, (lists, n), padded with `NO_ITEM`; vectors are of all items,
    (items, d). The strength, of all lists or each, is from 0, which keeps the order, to less than 1. Places, of shape
    (lists, min(limit, n)), are padded with -1.

    Examples:
        >>> marginal_relevance(np.array([[0, 1, 2]]), np.array([[1, 0], [2, 0], [0, 1]]), 0.5, limit=2)
        array([[0, 2]])
    """
    (lists, n), strengths = items.shape, np.broadcast_to(strength, len(items))[:, None]
    chosen = np.empty((lists, min(limit, n)), dtype=np.intp)
    at_once = max(1, VALUES_AT_ONCE // max(1, n * vectors.shape[1]))
    for start in range(0, lists, at_once):
        rows = slice(start, start + at_once)
        own = unit_vectors(vectors[items[rows].clip(0).ravel()]).reshape(*items[rows].shape, -1)
        every, nearest = np.arange(len(own)), np.zeros(items[rows].shape)
        gain = np.where(items[rows] != NO_ITEM, (1 - strengths[rows]) / np.log2(np.arange(n) + 2), -np.inf)
        for step in range(chosen.shape[1]):
            best = chosen[rows, step] = np.argmax(gain - strengths[rows] * nearest, axis=1)
            gain[every, best] = -np.inf
            cosines = np.einsum("lnd,ld->ln", own, own[every, best])
            nearest = np.maximum(nearest, cosines) if step else cosines
    return np.where(np.arange(chosen.shape[1]) < (items != NO_ITEM).sum(axis=1, keepdims=True), chosen, -1)


def diversify(pairs: pl.DataFrame, vectors: np.ndarray, strength: float, limit: int) -> pl.DataFrame:
    """Keep the `limit` best pairs of each user, who come best first, by `marginal_relevance`; but for fallbacks."""
    if pairs.is_empty():
        return pairs
    rows, items = rows_of_lists(pairs["user_id"], pairs["item_index"])
    strengths = np.where(pairs["fallback"].to_numpy()[rows[:, 0]], 0, strength)
    order = marginal_relevance(items, vectors, strengths, limit)
    return pairs[np.take_along_axis(rows, order, axis=1)[order >= 0]]
