"""Check whether items with similar embeddings belong together, to compare encoders."""

import numpy as np
import polars as pl
from scipy import sparse
from threadpoolctl import threadpool_limits

from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.fields import category_names, field_values
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import user_of_events

NEAREST = 10  # items among which the item that a user liked next is looked for
MOST_SAMPLED = 5_000  # items, or pairs of items, that are looked at, at most
RANDOM_ITEMS = 10  # drawn for each, to tell what chance gives
CELLS_AT_ONCE = 2**22  # similarities held at once: 32 MiB


def check_retrieval(log: InteractionLog, seed: int) -> Records:
    """Measure how often similar items belong together, compared with items drawn with the seed.

    There is one check per categorical field, whether the nearest other item shares a value, and one of users' training
    likes: whether the item liked next is among the ten nearest (by chance: items that others liked next). A record per
    check has check (in words), asked (number of items or pairs), share (how often it holds), chance (how often it holds
    for random items) and lift, their ratio, null if chance is 0.
    """
    if log.item_embeddings is None:
        raise ValueError("The log has no item embeddings to be checked.")
    random = np.random.default_rng(seed)
    vectors = unit_vectors(log.item_embeddings)
    checks = {
        f"the nearest item shares a value of {field}": _shared_values(vectors, log.items.select(field), random)
        for field in category_names(log.items)
    }
    checks[f"the item liked next is among the {NEAREST} nearest"] = _liked_next(vectors, log, random)
    return [
        {
            "check": name,
            "asked": len(similar),
            "share": float(similar.mean()),
            "chance": float(at_random.mean()),
            "lift": float(similar.mean() / at_random.mean()) if at_random.any() else None,
        }
        for name, (similar, at_random) in checks.items()
        if len(similar)
    ]


def nearest_items(vectors: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Return the k other items with the greatest cosines to each of `items`, nearest first: (items, at most k).

    `vectors`, shape (all items, d), have unit length; `items` are row numbers.

    Examples:
        >>> nearest_items(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), np.array([0, 2]), k=1)
        array([[1],
               [1]])
    """
    k = min(k, len(vectors) - 1)
    nearest = np.empty((len(items), k), dtype=np.int64)
    step = max(1, CELLS_AT_ONCE // len(vectors))
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(items), step):
            part = items[start : start + step]
            similarity = vectors[part] @ vectors.T
            similarity[np.arange(len(part)), part] = -np.inf
            top = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1, kind="stable")
            nearest[start : start + step] = np.take_along_axis(top, order, axis=1)
    return nearest


def _shared_values(
    vectors: np.ndarray, field: pl.DataFrame, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each item with the field shares a value with its nearest item, and with random items."""
    values = field_values(field, field.columns)
    items, row = np.unique(values["row"].to_numpy(), return_inverse=True)
    if len(items) < 2:
        return np.zeros(0), np.zeros(0)
    place = (values["value"].rank("dense") - 1).to_numpy()
    members = sparse.csr_array((np.ones(len(row)), (row, place)))
    queries = _evenly(len(items))
    nearest = nearest_items(vectors[items], queries, 1)[:, 0]
    steps = random.integers(1, len(items), len(queries) * RANDOM_ITEMS)
    others = (np.repeat(queries, RANDOM_ITEMS) + steps) % len(items)

    def share(items: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.asarray(members[items].multiply(members[others]).sum(axis=1)).ravel() > 0

    return share(queries, nearest), share(np.repeat(queries, RANDOM_ITEMS), others)


def _liked_next(vectors: np.ndarray, log: InteractionLog, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the item liked after each training like is near it, and whether that of another pair is."""
    sequences = log.sequences
    liked = np.flatnonzero(log.training_events() & (sequences.label == 1))
    item, user = sequences.item_index[liked], user_of_events(sequences.offsets)[liked]
    pairs = np.flatnonzero((user[1:] == user[:-1]) & (item[1:] != item[:-1]))
    items = np.unique(item)
    if len(pairs) == 0 or len(items) < 3:
        return np.zeros(0), np.zeros(0)
    pairs = pairs[_evenly(len(pairs))]
    first, then = np.searchsorted(items, item[pairs]), np.searchsorted(items, item[pairs + 1])
    queries, place = np.unique(first, return_inverse=True)
    nearest = nearest_items(vectors[items], queries, NEAREST)[place]
    others = np.stack([random.permutation(then) for _ in range(RANDOM_ITEMS)], axis=1)
    at_random = (nearest[:, None, :] == others[:, :, None]).any(axis=2)[others != first[:, None]]
    return (nearest == then[:, None]).any(axis=1), at_random


def _evenly(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLED)).astype(np.int64))
