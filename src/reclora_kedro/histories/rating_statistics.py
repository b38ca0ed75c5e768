"""Statistics of the log at a sample's moment: how its item was rated so far, and how its user rates."""

from copy import copy
from typing import Self

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer, normalize

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import Sequences, TimeLog, user_of_events
from reclora_kedro.interactions.schema import category_names

COLUMNS = {
    "item_like_rate": "share of likes among the item's ratings",
    "item_mean_rating": "mean of the item's ratings, from 0 to 1, the lowest and highest known to the lens's training",
    "item_recent_like_rate": "share of likes among the item's last ten ratings",
    "item_ratings": "logarithm of 1 + the number of the item's ratings",
    "user_like_rate": "share of likes among the user's ratings",
    "user_recent_like_rate": "share of likes among the user's last ten ratings",
    "user_ratings": "logarithm of 1 + the number of the user's ratings",
    "leniency": "mean of (liked or not) less the item's like rate when the user rated it, over the user's ratings",
    "recent_leniency": "the same over the last ten",
    "leniency_to_such_items": "the same, weighted by the cosine of the past item's field values with the target's",
    "rating_leniency_to_such_items": "the same, with ratings from 0 to 1 in place of likes",
}
"""Columns of `RatingStatistics.compute`, and what each holds."""

PRIOR = 3  # ratings, half of them likes, that each rate and mean begins with
RECENT = 10  # ratings
UNIT = 2.0**-32  # of sums: finer than what float32 tells apart, and 2**31 events do not overflow 64 bits
CELLS_AT_ONCE = 2**20  # pairs of event and field value whose three running sums are held at once: 24 MiB


class RatingStatistics:
    """All that the statistics need of the log, computed once for whatever samples are asked about.

    Args:
        log: the log; fields of its items, such as genres, tell which items are alike.
        delay: seconds until an event is known.
        until: second after which events stay unknown, if any.
        scale: the ratings that 0 and 1 stand for, those beyond are 0 or 1; None: the lowest and the highest.
    """

    def __init__(
        self,
        log: InteractionLog,
        delay: float = 0,
        until: int | None = None,
        scale: tuple[float, float] | None = None,
    ) -> None:
        self._delay, self._until, self._scale = delay, until, scale
        self._fields = _field_values(log.items)
        self._read(log.sequences)

    def beside(self, log: InteractionLog) -> Self:
        """The same of another log of the same items."""
        statistics = copy(self)
        statistics._read(log.sequences)
        return statistics

    def _read(self, sequences: Sequences) -> None:
        low, high = self._scale or (sequences.rating.min(), sequences.rating.max())
        ratings = ((sequences.rating - low) / max(high - low, 1)).clip(0, 1)
        self._offsets, self._item_index = sequences.offsets, sequences.item_index
        self._log = TimeLog(sequences.item_index, sequences.timestamp)
        delayed = self._delay > 0 or self._until is not None
        self._user_log = TimeLog(user_of_events(sequences.offsets), sequences.timestamp) if delayed else None
        self._item_likes, self._item_ratings = (_Sums(part[self._log.order]) for part in (sequences.label, ratings))
        seen = self._log.ranges_before_own_second()
        leniency = sequences.label - self._item_likes.rate(*seen)
        self._leniencies = np.stack([leniency, ratings - self._item_ratings.rate(*seen)], axis=1)
        self._user_likes, self._leniency = _Sums(sequences.label), _Sums(leniency)

    def compute(self, samples: pl.DataFrame) -> pl.DataFrame:
        """What the log says at each sample's moment about its user and its item; nothing later is read.

        Statistics of an item are over events of an earlier second, those of a user over the history; of both, over what
        was known by then. An impression that was not clicked is no event, so that of impressions clicks alone count.
        Rates and means are drawn towards one half, as if a few ratings had been there before, so that a single like
        counts little. Users are lenient who like what few others do; the leniency to such items is 0 where no past item
        shares a field value with the target.

        Samples have the columns user_index, item_index, timestamp and history_end; the result has those of `COLUMNS`,
        float32.

        Examples:
            >>> from reclora_kedro.histories.sequences import Sequences
            >>> sequences = Sequences(
            ...     offsets=np.array([0, 2, 3]), item_index=np.array([0, 1, 0]), rating=np.array([5.0, 1.0, 5.0]),
            ...     rating_level=np.array([1, 0, 1]), label=np.array([1, 0, 1]), timestamp=np.array([10, 20, 30]),
            ... )
            >>> items = pl.DataFrame({"item_id": [7, 8], "genres": ["Drama", "War"]})
            >>> log = InteractionLog(items, pl.DataFrame({"user_id": [1, 2]}), sequences, pl.DataFrame())
            >>> now = log.now(pl.DataFrame({"user_index": [0, 1], "item_index": [0, 1]}))
            >>> RatingStatistics(log).compute(now)["item_like_rate"].to_numpy().round(2)
            array([0.7 , 0.38], dtype=float32)
        """
        samples = self._moved_back(samples)
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
        return pl.DataFrame({name: column.astype(np.float32) for name, column in zip(COLUMNS, columns, strict=True)})

    def _moved_back(self, samples: pl.DataFrame) -> pl.DataFrame:
        """The samples, moved back to the moment until which events are known."""
        if self._user_log is None:
            return samples
        moment = np.ceil(samples["timestamp"].to_numpy() - self._delay).astype(np.int64)
        if self._until is not None:
            moment = np.minimum(moment, self._until + 1)
        _, end = self._user_log.range_before(samples["user_index"].to_numpy(), moment)
        return samples.with_columns(timestamp=moment, history_end=np.minimum(samples["history_end"].to_numpy(), end))

    def _leniencies_to_such_items(self, samples: pl.DataFrame) -> np.ndarray:
        """Both leniencies over each history, weighted by likeness to the target: (rows, 2).

        The cosine of two items is a sum over the field values that both have. A sum over a history is then one over the
        target's values, of running sums over the user's events: the length of a history costs nothing.
        """
        means = np.zeros((samples.height, 2))
        if self._fields.nnz == 0:
            return means
        targets = self._fields[samples["item_index"].to_numpy()]
        start, end = self._offsets[samples["user_index"].to_numpy()], samples["history_end"].to_numpy()
        for rows in _blocks_of_users(start, end, CELLS_AT_ONCE // targets.shape[1]):
            events, shift = _events_of(start[rows], end[rows])
            past = self._fields[self._item_index[events]].toarray()
            weights = np.column_stack([np.ones(len(events)), self._leniencies[events]])
            sums = _sums_over_values(
                past[:, :, None] * weights[:, None], targets[rows], start[rows] + shift, end[rows] + shift
            )
            means[rows] = sums[:, 1:] / (sums[:, :1] + PRIOR)
        return means


def _blocks_of_users(start: np.ndarray, end: np.ndarray, events: int) -> list[np.ndarray]:
    """Rows in blocks of whole users, whose histories hold about so many events together."""
    by_user = np.argsort(start, kind="stable")
    users, first = np.unique(start[by_user], return_index=True)
    if len(users) == 0:
        return []
    block = np.cumsum(np.maximum.reduceat(end[by_user], first) - users) // max(1, events)
    return np.split(by_user, first[1:][np.diff(block) > 0])


def _events_of(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flat events of these histories, each user's once, and what takes a row's flat events to their places."""
    users, user_of_row = np.unique(start, return_inverse=True)
    last = users.copy()
    np.maximum.at(last, user_of_row, end)
    place = np.concatenate([[0], np.cumsum(last - users)])
    events = np.arange(place[-1]) + np.repeat(users - place[:-1], last - users)
    return events, (place[:-1] - users)[user_of_row]


def _sums_over_values(past: np.ndarray, targets: sparse.csr_array, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """For each target the sums over its values, and over the events `start:end`, of value times `past`.

    Args:
        past: shape (events, values, sums).
        targets: shape (targets, values).
        start: of the events of each target.
        end: of these.

    Returns:
        Shape (targets, sums).
    """
    running = np.concatenate([np.zeros((1, *past.shape[1:])), np.cumsum(past, axis=0)])
    row, value = np.repeat(np.arange(len(start)), np.diff(targets.indptr)), targets.indices
    terms = targets.data[:, None] * (running[end[row], value] - running[start[row], value])
    return np.stack([np.bincount(row, column, minlength=len(start)) for column in terms.T], axis=1)


class _Sums:
    """Sums of runs of values between -1 and 1, in whole units: rounding depends on no value outside the run."""

    def __init__(self, values: np.ndarray) -> None:
        self._sums = np.concatenate([[0], np.cumsum(np.rint(values / UNIT).astype(np.int64))])

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Sum of `values[start:end]` for each pair of places."""
        return (self._sums[end] - self._sums[start]) * UNIT

    def rate(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Mean of `values[start:end]`, drawn towards one half."""
        return (self.between(start, end) + PRIOR / 2) / (end - start + PRIOR)


def _field_values(items: pl.DataFrame) -> sparse.csr_array:
    """One row per item, of length 1 where it has fields: which values they hold."""
    fields = items.select(category_names(items))
    values = [
        [(field, value.strip()) for field, text in row.items() if text is not None for value in str(text).split(",")]
        for row in fields.iter_rows(named=True)
    ]
    if not any(values):
        return sparse.csr_array((items.height, 1))
    return sparse.csr_array(normalize(MultiLabelBinarizer(sparse_output=True).fit_transform(values).astype(float)))
