"""Each user's events stored once as flat arrays, and the levels of their ratings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from kedro_provenance.errors import NULL, Fault, MismatchError, Parameter
from reclora_kedro.ingestion.events import PLAIN, EventSchema
from reclora_kedro.parameters import Count

FIXED_COLUMNS = ("item_index", "rating", "rating_level", "label", "timestamp")  # columns of the events of every log
Ties = Literal["strict", "order"]
ROWS_AT_ONCE = 2**22  # whose levels, or places among an item's events, are looked up together
MOST_LEVELS = 256  # a level is stored as 8 bits
LEAST_RATIO = 32  # of the sizes of parts of the events: with few, parts are many; with many, merging takes long


RatingLevels = Annotated[Count, Field(ge=2, le=MOST_LEVELS)] | None
"""A number of quantiles of the training ratings; or each rating as a level."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The events of all users, grouped by user and in the order of time within a user.

    The events of user `u` are `offsets[u]:offsets[u + 1]`, which equals `starts[u]:ends[u]`; a position in these arrays
    is a *flat event index*. Offsets have shape (users + 1,), all other arrays (events,).
    """

    offsets: np.ndarray  # int64
    item_index: np.ndarray  # int32: row of the item in the canonical items
    rating: np.ndarray  # float32: as the log has it
    rating_level: np.ndarray  # uint8: see `rating_levels`
    label: np.ndarray  # int8: 1 = liked
    timestamp: np.ndarray  # int64: seconds since the epoch
    schema: EventSchema = PLAIN
    declared: Mapping[str, np.ndarray] = field(default_factory=dict)  # the columns that it declares

    @classmethod
    def from_columns(cls, offsets: np.ndarray, schema: EventSchema = PLAIN, **columns: np.ndarray) -> "Sequences":
        """Return events with some columns by name; the others have zeros, and declared ones no values.

        Examples:
            >>> sequences = Sequences.from_columns(np.array([0, 2]), item_index=np.array([5, 8]))
            >>> sequences.item_index, sequences.rating
            (array([5, 8]), array([0., 0.]))
        """
        events = offsets[-1]
        declared = {c.name: columns.pop(c.name, np.full(events, c.missing, c.stored)) for c in schema.declared}
        zeros = {name: np.zeros(events) for name in FIXED_COLUMNS}
        return Sequences(offsets=offsets, schema=schema, declared=declared, **zeros | columns)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the events by name."""
        return {name: getattr(self, name) for name in FIXED_COLUMNS} | dict(self.declared)

    def where(self, kept: np.ndarray, **changed: np.ndarray) -> "Sequences":
        """Return the events of a mask, with changed columns of these; users keep their indices.

        Examples:
            >>> sequences = Sequences.from_columns(np.array([0, 2, 3]), item_index=np.array([5, 8, 5]))
            >>> some = sequences.where(np.array([True, False, True]))
            >>> some.offsets, some.item_index
            (array([0, 1, 2]), array([5, 5]))
        """
        columns = {name: column[kept] for name, column in self.columns.items()} | changed
        return self.from_columns(np.append(0, kept.cumsum())[self.offsets], self.schema, **columns)

    def weights(self, events: np.ndarray) -> np.ndarray | None:
        """Return how much some events count to item models, float32; None if each counts 1."""
        return self.schema.weights(self.declared, events)

    @property
    def starts(self) -> np.ndarray:
        return self.offsets[:-1]

    @property
    def ends(self) -> np.ndarray:
        return self.offsets[1:]

    @property
    def last_second(self) -> int:
        return int(self.timestamp.max())

    @cached_property
    def by_item(self) -> "tuple[ItemEvents, ...]":
        user = user_of_events(self.offsets)
        return (ItemEvents(user, self.item_index, self.timestamp, self.label, self.rating),)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}  # the rest is made again


def user_of_events(offsets: np.ndarray) -> np.ndarray:
    """Return the user of every flat event, int32, from the offsets of `Sequences`.

    Examples:
        >>> user_of_events(np.array([0, 2, 3]))
        array([0, 0, 1], dtype=int32)
    """
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def places_of(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the flat event indices of runs of events, concatenated.

    Examples:
        >>> places_of(np.array([4, 0]), np.array([6, 3]))
        array([4, 5, 0, 1, 2])
    """
    lengths = ends - starts
    return np.arange(lengths.sum()) + np.repeat(ends - lengths.cumsum(), lengths)


def edges_of_blocks(offsets: np.ndarray, events: int) -> np.ndarray:
    """Return the first user (or item) of each block with about as many events as given, and the number of users.

    Examples:
        >>> edges_of_blocks(np.array([0, 4, 5, 6, 9]), events=4)
        array([0, 1, 4])
    """
    return np.unique([0, *np.searchsorted(offsets, np.arange(0, offsets[-1], events)), len(offsets) - 1])


def first_not_before(second: np.ndarray, timestamp: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the first event of each run at a second or later, or the run's end; runs are in time order.

    Examples:
        >>> first_not_before(np.array([5, 9]), np.array([1, 5, 7, 4, 8]), np.array([0, 3]), np.array([3, 5]))
        array([1, 5])
    """
    low, high = starts.copy(), ends.copy()
    while len(open_ := np.flatnonzero(low < high)):
        middle = (low[open_] + high[open_]) // 2
        is_before = timestamp[middle] < second[open_]
        low[open_[is_before]], high[open_[~is_before]] = middle[is_before] + 1, middle[~is_before]
    return low


class TimeLog:
    """Events in the `order` of item (or user) and time: int32, as an event takes 12 bytes here."""

    def __init__(self, index: np.ndarray, timestamp: np.ndarray) -> None:
        self._first = timestamp.min(initial=np.iinfo(np.int64).max)  # without any event, all that follows holds too
        self._last = timestamp.max(initial=self._first)
        self._seconds = np.int64(self._last - self._first + 2)
        keys = self._key(index, timestamp)
        self.order = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys = keys[self.order]
        self._offsets = np.append(0, np.bincount(index).cumsum())

    def range_before(self, index: np.ndarray, timestamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places in `order` of the items' first events and of those at the given seconds or later."""
        first, end = (self._offsets[np.minimum(each, len(self._offsets) - 1)] for each in (index, index + 1))
        if (timestamp > self._last).all():  # which needs no search
            return first, end
        return first, np.searchsorted(self._keys, self._key(index, timestamp))

    def seconds(self, places: np.ndarray) -> np.ndarray:
        """Return the seconds of the events at places in `order`; of any event where a place is beyond them."""
        if not len(self._keys):
            return np.zeros(len(places), dtype=np.int64)
        return self._first + self._keys.take(places, mode="clip") % self._seconds

    def ranges_before_own_second(self) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """Yield the events of some items and their `range_before`, in less time."""
        for start, end in pairwise(self._offsets[edges_of_blocks(self._offsets, ROWS_AT_ONCE)]):
            keys, place = self._keys[start:end], np.arange(start, end)
            ranges = []
            for opens in (keys // self._seconds, keys):  # an item's events begin, and those of its second do
                first = np.diff(opens, prepend=-1) != 0
                ranges.append(np.maximum.accumulate(np.where(first, place, start)))
            yield self.order[start:end], (ranges[0], ranges[1])

    def _key(self, index: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
        seconds = timestamp - self._first
        seconds.clip(0, self._seconds - 1, out=seconds)
        seconds += index.astype(np.int64) * self._seconds
        return seconds


@dataclass(frozen=True, eq=False)
class ItemEvents:
    """Some events in the order of their users, and the order by item and time; all arrays of shape (events,)."""

    user: np.ndarray
    item_index: np.ndarray
    timestamp: np.ndarray
    label: np.ndarray
    rating: np.ndarray
    sign: ClassVar = 1

    @cached_property
    def log(self) -> TimeLog:
        """The events by item and time; within a second in the order of users."""
        return TimeLog(self.item_index, self.timestamp)

    def moments(self, places: np.ndarray) -> np.ndarray:
        """Return sort keys of events of one item at places of `log`: second and user as one int64."""
        rows = self.log.order[places]
        return self.timestamp[rows] << 31 | self.user[rows]

    def joined_with(self, others: Self) -> Self:
        names = [each.name for each in fields(self)]
        columns = [np.concatenate([getattr(part, name) for part in (self, others)]) for name in names]
        order = np.argsort(columns[0], kind="stable")
        return type(self)(*(column[order] for column in columns))


class RemovedEvents(ItemEvents):
    """Events of other parts that do not count any more."""

    sign: ClassVar = -1


def with_part(parts: tuple[ItemEvents, ...], new: ItemEvents) -> tuple[ItemEvents, ...]:
    """Add further events to parts of the events, keeping each part many times as large as the next.

    Counts over all events are sums over the parts, and an event is sorted into larger parts few times: the logarithmic
    method of Bentley and Saxe, Decomposable searching problems (1980).
    """
    parts = (*parts, new)
    while len(parts) > 1 and LEAST_RATIO * len(parts[-1].user) >= len(parts[-2].user):
        parts = (*parts[:-2], parts[-2].joined_with(parts[-1]))
    return parts


def rating_levels(rating: np.ndarray, training_ratings: np.ndarray, levels: RatingLevels) -> np.ndarray:
    """Return the levels of ratings, uint8, from 0; the levels depend on the training ratings only.

    Ratings beyond the training ratings get the first or last level. With None, each distinct training rating is a
    level, and ratings get the nearest one; more than 256 levels are refused by a Fault. A number gives quantiles with
    about equally many training ratings.

    Examples:
        >>> rating_levels(np.array([1.2, 7.35, 9.9]), np.array([1.0, 7.0, 7.3, 8.0]), levels=2)
        array([0, 1, 1], dtype=uint8)
        >>> rating_levels(np.array([1.0, 4.0, 5.0, 3.9, 9.9]), np.array([4.0, 1.0, 5.0]), levels=None)
        array([0, 1, 2, 1, 2], dtype=uint8)
    """
    if not len(training_ratings):
        return np.zeros(len(rating), dtype=np.uint8)
    if levels is None:
        if len(values := np.unique(training_ratings)) > MOST_LEVELS:
            found = "is ", NULL, f", but the ratings have {len(values)} distinct values"
            expected = f"at most {MOST_LEVELS} can be levels of their own"
            raise Fault(Parameter("history.rating_levels"), found, expected, "Set it to a number, such as 10")
        edges = (values[1:].astype(float) + values[:-1]) / 2
    else:
        edges = np.unique(np.quantile(training_ratings, np.arange(1, levels) / levels))
    blocks = np.array_split(rating, 1 + len(rating) // ROWS_AT_ONCE)  # places in the edges are eight bytes each
    return np.concatenate([np.searchsorted(edges, block, side="right").astype(np.uint8) for block in blocks])


def levels_as_before(rating: np.ndarray, before: Sequences) -> np.ndarray:
    """Return the levels of ratings as earlier sequences have them, uint8; new ratings get the nearest one.

    Models trained on those sequences read these levels, which other training ratings would change.

    Examples:
        >>> ratings = {"rating": np.array([1.0, 4.0, 5.0]), "rating_level": np.array([0, 1, 2])}
        >>> before = Sequences.from_columns(np.array([0, 3]), **ratings)
        >>> levels_as_before(np.array([0.5, 2.0, 4.0, 9.0]), before)
        array([0, 0, 1, 2], dtype=uint8)
    """
    order = np.argsort(before.rating, kind="stable")
    ratings, levels = before.rating[order].astype(float), before.rating_level[order]
    levels, first = np.unique(levels, return_index=True)  # any of which may be missing, the lowest too
    edges = (ratings[first[1:] - 1] + ratings[first[1:]]) / 2
    return levels[np.searchsorted(edges, rating, side="right")].astype(np.uint8)


def with_indices(rows: pl.DataFrame, **entities: pl.DataFrame) -> pl.DataFrame:
    """Add each entity's index (`user`, `item`) in its canonical table to rows; raise MismatchError for an absent one.

    Examples:
        >>> with_indices(pl.DataFrame({"user_id": [7, 3]}), user=pl.DataFrame({"user_id": [3, 7]})).rows()
        [(7, 1), (3, 0)]
    """
    for entity, table in entities.items():
        index = table.select(f"{entity}_id", pl.int_range(pl.len(), dtype=pl.Int32).alias(f"{entity}_index"))
        rows = rows.join(index, on=f"{entity}_id", how="left", maintain_order="left")
        unknown = rows.filter(pl.col(f"{entity}_index").is_null())[f"{entity}_id"].unique().sort()
        if len(unknown):
            raise MismatchError(
                f"interactions name {len(unknown)} values of {entity}_id that the {entity}s table lacks, for example "
                f"{unknown.head(3).to_list()}: the tables stem from different runs.",
                "interactions",
                f"{entity}s",
            )
    return rows
