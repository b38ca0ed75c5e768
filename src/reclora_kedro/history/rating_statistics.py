"""Statistics of the log at a sample's moment: past ratings of its item, and rating habits of its user."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Self

import numpy as np
import polars as pl
from scipy import sparse

from reclora_kedro.history.fields import category_names, field_values
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import ItemEvents, Sequences, first_not_before, places_of

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
"""Columns of `RatingStatistics.compute` and their descriptions."""

PRIOR = 3  # ratings, half of them likes, that each rate and mean begins with
RECENT = 10  # ratings
UNIT = 2.0**-32  # of sums: finer than what float32 tells apart, and 2**31 events do not overflow 64 bits
VALUES_AT_ONCE = 2**22  # that are summed together
LIKES, RATINGS = 0, 1  # what is summed of the parts of the events
NEVER = -np.iinfo(np.int64).max
CELLS_AT_ONCE = 2**20  # pairs of event and field value of the users whose histories are read together
MANY_VALUES = 64  # of fields: beyond it no fewer users are read together, as an event has few of the values

Ranges = Sequence[tuple[np.ndarray, np.ndarray]]
"""For each part of the events, the first and last places of items' events in the order of its log."""


class RatingStatistics:
    """Precomputed sums of the log for statistics of any samples; fields of items, such as genres, say which are alike.

    An event becomes visible after `delay` seconds, or never if it is later than the second `until`. Ratings are scaled
    to 0 and 1 from `scale`, clipping others, or from the lowest and the highest.
    """

    def __init__(
        self,
        log: InteractionLog,
        delay: float = 0,
        until: int | None = None,
        scale: tuple[float, float] | None = None,
    ) -> None:
        self._delay, self._until = delay, until
        self._scale = scale or (log.sequences.rating.min(), log.sequences.rating.max())
        self._fields = _unit_fields(log.items)
        self._sums: dict[ItemEvents, tuple[_Sums, _Sums]] = {}
        self._read(log.sequences)

    def with_log(self, log: InteractionLog) -> Self:
        """Return the statistics of another log of the same items, reusing sums over parts that both share."""
        statistics = copy(self)
        statistics._read(log.sequences)
        return statistics

    def _read(self, sequences: Sequences) -> None:
        summed, self._events = self._sums, sequences
        self._sums = {part: summed.get(part) or self._sums_of(part) for part in sequences.by_item}
        only, *others = self._sums
        self._leniencies: np.ndarray | None = None
        if not others and only.item_index is sequences.item_index:  # all in advance, as these are the flat events
            self._leniencies = np.empty((len(only.item_index), 2))
            for events, earlier in only.log.ranges_before_own_second():
                self._leniencies[events] = self._leniencies_of(events, [earlier])

    def _sums_of(self, part: ItemEvents) -> tuple["_Sums", "_Sums"]:
        values = part.label, self._scaled(part.rating)
        likes, ratings = (_Sums(part.sign * of_kind, part.log.order) for of_kind in values)
        return likes, ratings

    def _scaled(self, ratings: np.ndarray) -> np.ndarray:
        low, high = self._scale
        return ((ratings - low) / ((high - low) or 1)).clip(0, 1)

    def compute(self, samples: pl.DataFrame) -> pl.DataFrame:
        """Compute statistics of each sample's user and item from events before its moment.

        Statistics of an item cover events of earlier seconds, those of a user the history; both only visible events. An
        impression without a click is no event. Rates and means are shrunk towards one half, as by a few prior ratings.
        A user's leniency is how much more they like items than others do; the leniency to similar items is 0 if no past
        item shares a field value with the target.

        Samples have the columns user_index, item_index, timestamp and history_end; the result has those of `COLUMNS`,
        float32.
        """
        user, item, end, moment = (
            samples[name].to_numpy() for name in ("user_index", "item_index", "history_end", "timestamp")
        )
        start = self._events.starts[user]
        if self._delay > 0 or self._until is not None:
            moment = np.ceil(moment - self._delay).astype(np.int64)
            if self._until is not None:
                moment = np.minimum(moment, self._until + 1)
            end = first_not_before(moment, self._events.timestamp, start, end)
        columns = (*self._of_items(item, moment), *self._of_users(user, start, end, item).T)
        return pl.DataFrame({name: column.astype(np.float32) for name, column in zip(COLUMNS, columns, strict=True)})

    def _of_items(self, item: np.ndarray, moment: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the columns about items, each of shape (rows,)."""
        ranges = [part.log.range_before(item, moment) for part in self._sums]
        yield self._item_rate(LIKES, ranges)
        yield self._item_rate(RATINGS, ranges)
        yield self._item_rate(LIKES, self._latest(ranges))
        yield np.log1p(self._lengths(ranges))

    def _of_users(self, user: np.ndarray, start: np.ndarray, end: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the columns about users with these histories: (rows, 7).

        The cosine of two items is a sum over their common field values, so a sum over a history is one over the
        target's values of running sums over the user's events, whatever the length of the history.
        """
        columns, targets = np.empty((len(user), 7)), self._fields[item]
        for rows in _blocks_of_users(user, end - start, CELLS_AT_ONCE // min(targets.shape[1], MANY_VALUES)):
            events, first = _events_of(user[rows], start[rows], end[rows])
            last = first + (end - start)[rows]
            recent = np.maximum(first, last - RECENT)
            leniencies = self._leniencies_at(events)
            likes, leniency = _Sums(self._events.label[events]), _Sums(leniencies[:, 0])
            past = self._fields[self._events.item_index[events]]
            weights = np.column_stack([np.ones(len(events)), leniencies])
            weight, *such = _sums_over_values(past, weights, targets[rows], first, last).T
            columns[rows] = np.column_stack(
                [
                    _rate(likes.between(first, last), last - first),
                    _rate(likes.between(recent, last), last - recent),
                    np.log1p(last - first),
                    leniency.between(first, last) * UNIT / (last - first + PRIOR),
                    leniency.between(recent, last) * UNIT / (last - recent + PRIOR),
                    *(sums / (weight + PRIOR) for sums in such),
                ]
            )
        return columns

    def _leniencies_at(self, events: np.ndarray) -> np.ndarray:
        if self._leniencies is not None:
            return self._leniencies[events]
        item, second = self._events.item_index[events], self._events.timestamp[events]
        return self._leniencies_of(events, [part.log.range_before(item, second) for part in self._sums])

    def _leniencies_of(self, events: np.ndarray, earlier: Ranges) -> np.ndarray:
        """Return likes and ratings of events minus the earlier rates of their items: (events, 2)."""
        own = self._events.label[events], self._scaled(self._events.rating[events])
        return np.stack([values - self._item_rate(kind, earlier) for kind, values in enumerate(own)], axis=1)

    def _item_rate(self, kind: int, ranges: Ranges) -> np.ndarray:
        """Return the rate of likes, or the mean rating, over ranges of the parts together."""
        sums = [part[kind].between(*among) for part, among in zip(self._sums.values(), ranges, strict=True)]
        return _rate(np.sum(sums, axis=0), self._lengths(ranges))

    def _latest(self, ranges: Ranges) -> Ranges:
        """Return the last ten events of these ranges of the parts together."""
        if len(ranges) == 1:
            [(first, last)] = ranges
            return [(np.maximum(first, last - RECENT), last)]
        counts = np.zeros((len(ranges), len(ranges[0][0])), dtype=np.int64)
        removed = np.zeros(counts.shape[1], dtype=np.int64)  # of each item's events
        for part, (first, last) in zip(self._sums, ranges, strict=True):
            removed += (last - first) * (part.sign < 0)
        doublings = np.ceil(np.log2(1 + removed / RECENT)).astype(np.int64)
        for doubling in np.unique(doublings).tolist():  # items with few removed events need few others
            rows = np.flatnonzero(doublings == doubling)
            of_rows = [(first[rows], last[rows]) for first, last in ranges]
            counts[:, rows] = self._count_latest(of_rows, RECENT << doubling)
        return [(last - count, last) for count, (_, last) in zip(counts, ranges, strict=True)]

    def _count_latest(self, ranges: Ranges, width: int) -> np.ndarray:
        """Return how many events of each range are since the tenth latest one that counts: (parts, rows).

        The latest `width` events are looked at: at least ten and those of the range that do not count.
        """
        moments, signs = [], []
        for part, (first, last) in zip(self._sums, ranges, strict=True):
            places = last[:, None] - np.arange(1, width + 1)
            inside = places >= first[:, None]
            moments.append(np.where(inside, part.moments(np.where(inside, places, 0)), NEVER))
            signs.append(part.sign * inside)
        every = np.concatenate(moments, axis=1)
        if width == RECENT:
            tenth = np.partition(every, -RECENT, axis=1)[:, [-RECENT]]
        else:
            sign = np.concatenate(signs, axis=1)
            latest_first = np.lexsort((sign, -every))  # of one moment those first that do not count
            counted = np.take_along_axis(sign, latest_first, axis=1).cumsum(axis=1) >= RECENT
            place = np.where(counted.any(axis=1), counted.argmax(axis=1), -1)[:, None]
            tenth = np.take_along_axis(every, np.take_along_axis(latest_first, place, axis=1), axis=1)
        return np.stack([((moment >= tenth) & (moment > NEVER)).sum(axis=1) for moment in moments])

    def _lengths(self, ranges: Ranges) -> np.ndarray:
        return np.sum(
            [part.sign * (last - first) for part, (first, last) in zip(self._sums, ranges, strict=True)], axis=0
        )


def _rate(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return means of values whose sums are in `UNIT`, shrunk towards one half."""
    return (sums * UNIT + PRIOR / 2) / (counts + PRIOR)


def _blocks_of_users(user: np.ndarray, lengths: np.ndarray, events: int) -> list[np.ndarray]:
    """Divide rows into blocks of whole users, whose histories have about `events` events together."""
    by_user = np.argsort(user, kind="stable")
    _, first = np.unique(user[by_user], return_index=True)
    if len(first) == 0:
        return []
    block = np.cumsum(np.maximum.reduceat(lengths[by_user], first)) // max(1, events)
    return np.split(by_user, first[1:][np.diff(block) > 0])


def _events_of(user: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat events of histories, each user's once, and the place of each row's first one among them."""
    _, row, user_of_row = np.unique(user, return_index=True, return_inverse=True)
    starts = start[row]
    ends = starts.copy()
    np.maximum.at(ends, user_of_row, end)
    return places_of(starts, ends), np.append(0, np.cumsum(ends - starts))[user_of_row]


def _sums_over_values(
    past: sparse.csr_array, weights: np.ndarray, targets: sparse.csr_array, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Return for each target the sum over its values and the events `start:end` of value · `past` · weight.

    `past` has shape (events, values), `weights` (events, sums) and `targets` (targets, values); the result has
    shape (targets, sums). Time and memory grow with the number of values that items have, not with that of all values.
    """
    event, row = (np.repeat(np.arange(each.shape[0]), np.diff(each.indptr)) for each in (past, targets))
    keys = past.indices.astype(np.int64) * len(weights) + event
    order = np.argsort(keys)  # by value, then by time
    running = np.zeros((len(order) + 1, weights.shape[1]))  # sums of a value's events; at the end that of none
    np.multiply(past.data[order, None], weights[event[order]], out=running[:-1])
    value, keys = targets.indices.astype(np.int64) * len(weights), keys[order]
    opens = np.flatnonzero(np.diff(past.indices[order])) + 1
    for of_value in map(slice, [0, *opens.tolist()], [*opens.tolist(), len(order)]):
        np.add.accumulate(running[of_value], axis=0, out=running[of_value])
    first, *ends = (np.searchsorted(keys, value + place) for place in (0, end[row], start[row]))
    until_end, until_start = (running[np.where(place > first, place - 1, -1)] for place in ends)
    terms = targets.data[:, None] * (until_end - until_start)
    return np.stack([np.bincount(row, column, minlength=len(start)) for column in terms.T], axis=1)


class _Sums:
    """Sums of runs of values in [-1, 1], in integer multiples of `UNIT`: rounding is independent of other values."""

    def __init__(self, values: np.ndarray, order: np.ndarray | None = None) -> None:
        self._sums = np.zeros(1 + len(values), dtype=np.int64)
        for start in range(0, len(values), VALUES_AT_ONCE):
            block = slice(start, start + VALUES_AT_ONCE)
            some = values[block] if order is None else values[order[block]]
            sums = self._sums[1:][block]
            np.cumsum(np.rint(some / UNIT).astype(np.int64), out=sums)
            sums += self._sums[start]

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the sum of `values[start:end]` for each pair of places."""
        return self._sums[end] - self._sums[start]


def _unit_fields(items: pl.DataFrame) -> sparse.csr_array:
    """Return the field values of items, (items, values), one row of unit length per item that has any."""
    from sklearn.preprocessing import normalize

    values = field_values(items, category_names(items))
    place = values.select(pl.struct("field", "value").rank("dense") - 1).to_series()
    cells = (np.ones(values.height), (values["row"].to_numpy(), place.to_numpy()))
    return normalize(sparse.csr_array(cells, shape=(items.height, max(1, place.n_unique()))))
