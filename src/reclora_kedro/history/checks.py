"""Checks of a log: whether items with similar embeddings belong together, and whether a draw shows in negatives."""

import logging

import numpy as np
import polars as pl
from scipy import sparse
from threadpoolctl import threadpool_limits

from reclora_kedro.evaluation.records import Record, Records
from reclora_kedro.history.fields import category_names, field_values
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import TimeLog, user_of_events
from reclora_kedro.history.splits import SPLIT_NAMES

NEAREST = 10  # items among which the item that a user liked next is looked for
MOST_SAMPLED = 5_000  # items, or pairs of items, that are looked at, at most
RANDOM_ITEMS = 10  # drawn for each, to tell what chance gives
CELLS_AT_ONCE = 2**22  # similarities held at once: 32 MiB
MOST_AUC = 0.55  # of a number alone, beyond which it is warned of
MOST_ROWS = 100_000  # of a split that are looked at: the standard error of the AUC is 0.002
NEVER = np.iinfo(np.int64).max  # seconds since the last event of an item without any
HOUR, WEEK = 3_600, 7 * 86_400  # seconds


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
    records = []
    for name, (similar, at_random) in checks.items():
        if len(similar):
            share, chance = float(similar.mean()), float(at_random.mean())
            record = {"check": name, "asked": len(similar), "share": share, "chance": chance}
            records.append(record | {"lift": share / chance if chance else None})
    return records


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


def check_negatives(log: InteractionLog, seed: int) -> Records:
    """Measure how well single numbers of an item before the moment separate likes from drawn negatives.

    Where they do, models would learn the draw, not tastes.
    A split with more than `MOST_ROWS` rows is sampled with the seed. A record per number and split has number (in
    words), split, rows, auc (of the number, or of its negative if that is higher), and warning, a sentence, which is
    also logged, if the AUC is over `MOST_AUC` and two standard errors above one half, else null.
    """
    from sklearn.metrics import roc_auc_score

    sequences = log.sequences
    time_log, records = TimeLog(sequences.item_index, sequences.timestamp), list[Record]()
    for split in SPLIT_NAMES:
        samples = log.samples_in(split)
        samples = samples.sample(min(MOST_ROWS, samples.height), seed=seed)
        for number, values in _numbers(samples, time_log, sequences.timestamp).items():
            auc = float(roc_auc_score(samples["label"], values))
            auc = max(auc, 1 - auc)
            warning = f"Of the {split} rows, {number} alone tell drawn negatives from likes: AUC {auc:.3f}."
            record = {"number": number, "split": split, "rows": samples.height, "auc": auc}
            tells = auc > max(MOST_AUC, 0.5 + 2 / (3 * samples.height) ** 0.5)
            records.append(record | {"warning": warning if tells else None})
    for record in records:
        if record["warning"]:
            logging.getLogger(__name__).warning(record["warning"])
    return records


def _numbers(samples: pl.DataFrame, time_log: TimeLog, timestamp: np.ndarray) -> dict[str, np.ndarray]:
    items, seconds = samples["item_index"].to_numpy(), samples["timestamp"].to_numpy()
    first, last = time_log.range_before(items, seconds)
    last_event = timestamp[time_log.order[np.maximum(last - 1, 0)]]
    return {
        "seconds since the item's last event": np.where(last > first, seconds - last_event, NEVER),
        "the item's events of the last hour": last - time_log.range_before(items, seconds - HOUR)[1],
        "the item's events of the last 7 days": last - time_log.range_before(items, seconds - WEEK)[1],
        "the item's earlier events": last - first,
        "the place of the item's id in order": items,
    }
