"""Events and age of items at given moments, and their similarity to the user's latest ones."""

from itertools import pairwise

import numpy as np
import polars as pl

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import TimeLog

LATEST = 5  # events whose items' vectors are compared with those of pairs
TREND_DAYS = 30
SECONDS_PER_DAY = 86_400


class ItemFacts:
    """Features of pairs: number and age of the item's events, and its similarity to the user's history.

    Args:
        log: the log; item embeddings are compared if there are any.
        known: whether each event counts, shape (events,); None for all.
        delay: age from which an event counts, in seconds.
    """

    def __init__(self, log: InteractionLog, known: np.ndarray | None = None, delay: float = 0) -> None:
        item, second = log.sequences.item_index, log.sequences.timestamp
        if known is not None:
            item, second = item[known], second[known]
        self._times, self._after, self._delay = TimeLog(item, second), second.max(initial=0) + 1, delay
        self._seconds = np.append(second[self._times.order], 0)
        self._vectors = None if log.item_embeddings is None else unit_vectors(log.item_embeddings).astype(np.float32)

    def _until(self, pairs: pl.DataFrame) -> np.ndarray:
        return np.minimum(pairs["timestamp"].to_numpy() - self._delay, self._after)

    def features(self, log: InteractionLog, pairs: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return the features of pairs with histories in a log: by name, shape (pairs,)."""
        item, now, end = (pairs[name].to_numpy() for name in ("item_index", "timestamp", "history_end"))
        start, until = log.sequences.starts[pairs["user_index"].to_numpy()], self._until(pairs)
        first, last = self._times.range_before(item, until)
        is_cold, is_new = last == first, end == start
        features = {
            "events": np.log1p(last - first),
            "recent_events": np.log1p(last - self._times.range_before(item, until - TREND_DAYS * SECONDS_PER_DAY)[1]),
            "days_since_item": _log_days(until - self._seconds[last - 1], is_cold),
            "item_age": _log_days(until - self._seconds[first], is_cold),
            "history_length": np.log1p(end - start),
            "days_since_event": _log_days(now - log.sequences.timestamp[end - 1], is_new),
        }
        if self._vectors is not None:
            cosines = self._cosines(log, pairs)
            features |= {"cosine_last": cosines[:, 0], "cosine_latest": cosines[:, 1]}
        return features

    def _cosines(self, log: InteractionLog, pairs: pl.DataFrame) -> np.ndarray:
        """Return the cosine with the item of the last event, and the greatest with the latest ones: (pairs, 2)."""
        assert self._vectors is not None  # the caller has asked
        item, user, end = (pairs[name].to_numpy() for name in ("item_index", "user_index", "history_end"))
        cosines = np.zeros((pairs.height, 2), dtype=np.float32)
        for start, stop in pairwise(moment_bounds(pairs)):
            until = end[start]
            latest = log.sequences.item_index[max(log.sequences.starts[user[start]], until - LATEST) : until]
            if len(latest):
                of_items = self._vectors[item[start:stop]] @ self._vectors[latest].T
                cosines[start:stop] = np.stack([of_items[:, -1], of_items.max(axis=1)], axis=1)
        return cosines


def _log_days(seconds: np.ndarray, is_unknown: np.ndarray) -> np.ndarray:
    return np.where(is_unknown, -1, np.log1p(np.maximum(seconds, 0) / SECONDS_PER_DAY))


def moment_bounds(pairs: pl.DataFrame) -> list[int]:
    """Return the first pair of each moment, and the number of pairs; pairs of a moment must be consecutive."""
    number = pairs.select(moment=pl.struct("user_index", "history_end").rle_id()).to_series().to_numpy()
    return [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), pairs.height]
