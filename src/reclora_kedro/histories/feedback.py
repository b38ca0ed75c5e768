"""How users rated and how items were rated so far: statistics of the log that go on after the lens is trained."""

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer, normalize

from reclora_kedro.histories.retrieval import blocks_of_one_user
from reclora_kedro.histories.sequences import Sequences

STATISTICS = (
    "item_like_rate",
    "item_mean_rating",
    "item_recent_like_rate",
    "item_ratings",
    "user_like_rate",
    "user_recent_like_rate",
    "user_ratings",
    "leniency",
    "recent_leniency",
    "leniency_to_such_items",
    "rating_leniency_to_such_items",
)
"""Columns of `FeedbackLog.statistics`."""

PRIOR = 3  # ratings, half of them likes, that each rate and mean begins with
RECENT = 10  # ratings
NOT_FIELDS = ("user_id", "item_id", "title")  # all other columns of canonical users and items are fields
CELLS_AT_ONCE = 2**22  # pairs of target and past item that are compared at once: 32 MiB


class FeedbackLog:
    """All that statistics of feedback need of the log, computed once for whatever samples are asked about.

    Args:
        sequences: every user's events.
        items: canonical items, by item index; all but ids and titles are fields, a comma parts the values of one.
    """

    def __init__(self, sequences: Sequences, items: pl.DataFrame) -> None:
        low, high = sequences.rating.min(), sequences.rating.max()
        ratings = (sequences.rating - low) / max(high - low, 1)
        self._offsets, self._item_index = sequences.offsets, sequences.item_index
        self._log = _ItemLog(sequences)
        self._item_likes, self._item_ratings = (_Sums(part[self._log.order]) for part in (sequences.label, ratings))
        seen = self._log.range_before(sequences.item_index, sequences.timestamp)
        leniency = sequences.label - self._item_likes.rate(*seen)
        self._leniencies = np.stack([leniency, ratings - self._item_ratings.rate(*seen)], axis=1)
        self._user_likes, self._leniency = _Sums(sequences.label), _Sums(leniency)
        self._fields = _field_values(items)

    def statistics(self, samples: pl.DataFrame) -> np.ndarray:
        """What the log says at each sample's moment about its user and its item; nothing later is read.

        Rates and means are drawn towards one half, as if a few ratings had been there before, so that a single like
        counts little. Users are lenient who like what few others do: leniency is the mean of (liked or not) less the
        item's like rate when the user rated it. The leniency to such items weighs past items by the cosine of their
        fields' values with the target's, such as genres in common; it is 0 where there are none.

        Args:
            samples: with user_index, item_index, timestamp, and history_end.

        Returns:
            float32, shape (rows, 11), columns as in `STATISTICS`. Of the item, over events of an earlier second: like
            rate, mean rating (from 0 to 1, the lowest and highest of the log), like rate of the last ten ratings,
            logarithm of 1 + the number of ratings. Of the user, over the history: like rate, that of the last ten
            ratings, logarithm of 1 + the number of ratings, leniency, that of the last ten ratings, leniency to such
            items, and the same by ratings instead of likes.

        Examples:
            >>> sequences = Sequences(
            ...     offsets=np.array([0, 2, 3]), item_index=np.array([0, 1, 0]), rating=np.array([5.0, 1.0, 5.0]),
            ...     rating_level=np.array([1, 0, 1]), label=np.array([1, 0, 1]), timestamp=np.array([10, 20, 30]),
            ... )
            >>> items = pl.DataFrame({"item_id": [7, 8], "genres": ["Drama", "War"]})
            >>> now = {"user_index": [0, 1], "item_index": [0, 1], "history_end": [2, 3], "timestamp": [40, 40]}
            >>> FeedbackLog(sequences, items).statistics(pl.DataFrame(now))[:, 0].round(2)
            array([0.7 , 0.38], dtype=float32)
        """
        first, last = self._log.range_before(samples["item_index"].to_numpy(), samples["timestamp"].to_numpy())
        end = samples["history_end"].to_numpy()
        start = self._offsets[samples["user_index"].to_numpy()]
        recent = np.maximum(start, end - RECENT)
        columns = (
            self._item_likes.rate(first, last),
            self._item_ratings.rate(first, last),
            self._item_likes.rate(np.maximum(first, last - RECENT), last),
            np.log1p(last - first),
            self._user_likes.rate(start, end),
            self._user_likes.rate(recent, end),
            np.log1p(end - start),
            self._leniency.between(start, end) / (end - start + PRIOR),
            self._leniency.between(recent, end) / (end - recent + PRIOR),
            *self._leniencies_to_such_items(samples).T,
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def _leniencies_to_such_items(self, samples: pl.DataFrame) -> np.ndarray:
        """Both leniencies over each history, weighted by likeness to the target: (rows, 2)."""
        target, end = samples["item_index"].to_numpy(), samples["history_end"].to_numpy()
        means = np.zeros((samples.height, 2))
        for user, rows in blocks_of_one_user(samples["user_index"].to_numpy(), self._offsets, CELLS_AT_ONCE):
            past = slice(self._offsets[user], end[rows].max())
            weights = (self._fields[target[rows]] @ self._fields[self._item_index[past]].T).toarray()
            weights *= np.arange(past.start, past.stop) < end[rows, None]
            means[rows] = weights @ self._leniencies[past] / (weights.sum(axis=1, keepdims=True) + PRIOR)
        return means


class _Sums:
    """Sums of runs of values."""

    def __init__(self, values: np.ndarray) -> None:
        self._sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Sum of `values[start:end]` for each pair of places."""
        return self._sums[end] - self._sums[start]

    def rate(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Mean of `values[start:end]`, drawn towards one half."""
        return (self.between(start, end) + PRIOR / 2) / (end - start + PRIOR)


class _ItemLog:
    """All events by item and time: `order` puts the flat events so."""

    def __init__(self, sequences: Sequences) -> None:
        self._first = sequences.timestamp.min()
        self._seconds = np.int64(sequences.timestamp.max() - self._first + 2)
        keys = self._key(sequences.item_index, sequences.timestamp)
        self.order = np.argsort(keys, kind="stable")
        self._keys = keys[self.order]

    def range_before(self, item: np.ndarray, timestamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `order` the events of the items begin, and where those of the given seconds and later do."""
        beginning = np.full(len(item), self._first)
        first, last = (np.searchsorted(self._keys, self._key(item, moment)) for moment in (beginning, timestamp))
        return first, last

    def _key(self, item: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
        return item.astype(np.int64) * self._seconds + np.clip(timestamp - self._first, 0, self._seconds - 1)


def _field_values(items: pl.DataFrame) -> sparse.csr_array:
    """A row an item, of length 1 where it has fields: which values they hold."""
    fields = items.drop(NOT_FIELDS, strict=False)
    values = [
        [(field, value.strip()) for field, text in row.items() if text is not None for value in str(text).split(",")]
        for row in fields.iter_rows(named=True)
    ]
    if not any(values):
        return sparse.csr_array((items.height, 1))
    return sparse.csr_array(normalize(MultiLabelBinarizer(sparse_output=True).fit_transform(values).astype(float)))
