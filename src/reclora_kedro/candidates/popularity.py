"""Popularity: everyone gets items by the number of users who liked them lately."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import polars as pl

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.item_model import ItemModel, Step, Training
from reclora_kedro.candidates.moments import Lists, Moments, bound
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY
from reclora_kedro.parameters import Positive

SHARE_OF_TIMES = 0.999  # of the events, until the last of which a window may reach: a few later times do not move it
MARKED = 2**24  # counts of earlier seconds that are kept, from which later ones are counted: 64 MiB
CHANGES_OF_MARK = 2**16  # from one such second to the next, at least
NEVER = np.iinfo(np.int64).max


class PopularityConfig(Block):
    """Windows to try besides all time."""

    days: tuple[Positive, ...]


class PopularitySettings(Block):
    """Length of the window in days; None for all time."""

    days: Positive | None = None


@dataclass(frozen=True, eq=False)
class Likes:
    """Likes by user and item, those of one pair by time, which windows of any length are made of.

    Where the log declares weights, a user counts for an item as the greatest of their joined likes so far.
    """

    item: np.ndarray  # shape (likes,)
    second: np.ndarray  # int64, shape (likes,)
    again: np.ndarray  # whether the like before is of the same user and item, shape (likes,)
    in_time: np.ndarray  # places of the likes in the order of time, int32, shape (likes,)
    weight: np.ndarray | None  # float32, shape (likes,); None if each counts 1

    @classmethod
    def from_events(
        cls, user: np.ndarray, item: np.ndarray, second: np.ndarray, weight: np.ndarray | None = None
    ) -> Self:
        """Put likes in order; those of a user are in the order of time."""
        order = np.argsort(user.astype(np.int64) * (item.max(initial=0) + 1) + item, kind="stable")
        user, item, second = user[order], item[order], second[order]
        again = (np.diff(user, prepend=-1) == 0) & (np.diff(item, prepend=-1) == 0)
        in_time = np.argsort(second, kind="stable").astype(np.int32)
        return cls(item, second, again, in_time, None if weight is None else weight[order])

    def spans(self, length: int | None) -> "Spans":
        """Return the spans of `length` seconds after likes, those of one user and item joined; None for endless ones.

        So each user counts once, however often they take an item.
        """
        goes_on = self.again if length is None else self.again & (np.diff(self.second, prepend=0) < length)
        begins, most = ~goes_on, np.ones(len(self.item), dtype=np.int8)
        more = most
        if self.weight is not None:
            most = _greatest_so_far(self.weight, begins)
            more = np.where(begins, most, np.diff(most, prepend=0))
            begins = more > 0
        first = self.in_time[begins[self.in_time]]
        seconds, items, changes = self.second[first], self.item[first], more[first]
        if length is not None:
            is_last = np.append(~goes_on[1:], np.ones(min(len(goes_on), 1), dtype=bool))
            last = self.in_time[is_last[self.in_time]]
            seconds = np.concatenate([seconds, self.second[last] + length])
            order = np.argsort(seconds, kind="stable").astype(np.int32)
            seconds, items = seconds[order], np.concatenate([items, self.item[last]])[order]
            changes = np.concatenate([changes, -most[last]])[order]
        return Spans(seconds, items, changes)


@dataclass(frozen=True, eq=False)
class Spans:
    """When users count for items, as seconds in ascending order at which one begins or ceases to count."""

    second: np.ndarray  # int64, shape (changes,)
    item: np.ndarray  # shape (changes,)
    change: np.ndarray  # 1 or -1 as int8, or the weight of a user that begins or ceases to count, shape (changes,)

    def counts(self, seconds: np.ndarray, items: int) -> np.ndarray:
        """Return the number of users who count before each of some ascending seconds: float32, (seconds, items)."""
        ends, (step, marks), now = np.searchsorted(self.second, seconds), self._marks, np.zeros(items)
        mark = int(ends.min(initial=len(self.item))) // step
        now[: marks.shape[1]] = marks[mark]
        return self._counted(ends, now, mark * step)

    @cached_property
    def _marks(self) -> tuple[int, np.ndarray]:
        """A number of changes, and the counts before any and after each such number: float32, (marks, items)."""
        items = int(self.item.max(initial=-1)) + 1
        step = max(CHANGES_OF_MARK, len(self.item) * items // MARKED)
        return step, self._counted(np.arange(0, len(self.item) + 1, step), np.zeros(items), 0)

    def _counted(self, ends: np.ndarray, now: np.ndarray, done: int) -> np.ndarray:
        """Return the counts after each of some ascending numbers of changes, from those now, after `done` of them."""
        counts = np.empty((len(ends), len(now)), dtype=np.float32)
        for row, end in enumerate(ends.tolist()):
            np.add.at(now, self.item[done:end], self.change[done:end].astype(np.float64))
            counts[row], done = now, end
        return counts


@dataclass(frozen=True, eq=False)
class Popularity(ItemModel):
    """Number of distinct users who liked an item in the days before the moment, or at any time before it.

    A window ends at the moment, at the latest at the last of the known events, save for the latest thousandth of them:
    a few events with later times do not move it.
    Without a shared clock, all known likes count at any moment.
    """

    NOTE: ClassVar = "number of users who liked the item before, ever or in a window chosen on validation likes"
    LABEL: ClassVar = "liked by the most users"
    STYLE: ClassVar = Style("#9C755F", "hexagon", "longdash")
    Config: ClassVar = PopularityConfig
    Settings: ClassVar = PopularitySettings

    spans: Spans
    length: int | None  # of the window in seconds
    after: int  # second from which on counts stay the same
    has_clock: bool
    _counts: dict[int, np.ndarray] = field(default_factory=dict)  # those of the latest second that was asked for alone
    _first: dict[int, np.ndarray] = field(default_factory=dict)  # the first items of the latest second alone

    @classmethod
    def choices(cls, config: PopularityConfig, training: Training) -> list[Step]:
        windows = config.days if training.log.shared_clock else ()
        return [Step([{"days": days} for days in (None, *windows)])] if windows else []

    @classmethod
    def fit(cls, training: Training, settings: PopularitySettings) -> Self:
        log = training.log
        length = None if settings.days is None or not log.shared_clock else round(settings.days * SECONDS_PER_DAY)
        spans, after = _spans(training, training.is_training_event, length)
        return cls(spans, length, after, log.shared_clock)

    def as_of_each_moment(self, training: Training) -> Self:
        if not self.has_clock:
            return self
        spans, after = _spans(training, np.ones(len(training.is_training_event), dtype=bool), self.length)
        return replace(self, spans=spans, after=after, _counts={}, _first={})

    def scores(self, moments: Moments) -> np.ndarray:
        seconds, row = np.unique(self._until(moments), return_inverse=True)
        if len(seconds) == 1:
            return np.broadcast_to(self._counts_at(seconds[0], moments.items), (len(moments), moments.items))
        return self.spans.counts(seconds, moments.items)[row]

    def top(self, moments: Moments, limit: int) -> Lists:
        """Return the best items; those of one second, such as now, are ranked once."""
        seconds = np.unique(self._until(moments)).tolist()
        if len(seconds) != 1 or any(only is not None for only in moments.allowed):
            return super().top(moments, limit)
        longest = limit + max((len(items) for items in moments.hidden), default=0)
        count = min(1 << longest.bit_length(), moments.items)
        counts = self._counts_at(seconds[0], moments.items)
        ranking = self._first.get(seconds[0])
        if ranking is None or len(ranking) < count:
            near = np.flatnonzero(counts >= bound(counts[None], count)[0])
            ranking = near[np.lexsort((moments.order.place[near], -counts[near]))]
            self._first.clear()
            self._first[seconds[0]] = ranking
        lists = Lists.empty(len(moments), limit)
        for row in range(len(moments)):
            items = moments.first(row, limit, among=ranking)
            lists.items[row, : len(items)], lists.scores[row, : len(items)] = items, counts[items]
        return lists

    def _counts_at(self, second: int, items: int) -> np.ndarray:
        """Return the counts at a second, such as now: float32, shape (items,)."""
        counts = self._counts.get(second)
        if counts is None:
            [counts] = self.spans.counts(np.array([second]), items)
            self._counts.clear()
            self._counts[second] = counts
        return counts

    def _until(self, moments: Moments) -> np.ndarray:
        return np.minimum(moments.seconds, self.after) if self.has_clock else np.full(len(moments), NEVER)


def _greatest_so_far(weight: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return the greatest weight since the latest place at which a run begins.

    Examples:
        >>> _greatest_so_far(np.array([1.0, 0.5, 3.0, 2.0]), np.array([True, False, False, True]))
        array([1., 1., 3., 2.])
    """
    place = pl.DataFrame({"run": begins.cumsum(), "weight": weight})
    return place.select(pl.col("weight").cum_max().over("run")).to_series().to_numpy()


def _spans(training: Training, is_training_event: np.ndarray, length: int | None) -> tuple[Spans, int]:
    """Return the spans of known likes, and the second after all known events but the latest thousandth."""
    events, count = training.log.sequences, int(is_training_event.sum())
    until = 1.0 if length is None else SHARE_OF_TIMES

    def ordered() -> Likes:
        likes = np.flatnonzero(is_training_event & (events.label == 1))
        columns = training.user[likes], events.item_index[likes], events.timestamp[likes]
        return Likes.from_events(*columns, events.weights(likes))

    def end() -> int:
        return int(np.quantile(events.timestamp[is_training_event], until, method="lower")) + 1 if count else 0

    likes = training.once(("likes", count), ordered)  # the windows that are tried differ in their lengths alone
    return likes.spans(length), training.once(("end", count, until), end)
