"""Sequences to which events can be added without copying them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from reclora_kedro.history.sequences import LEAST_RATIO, ItemEvents, RemovedEvents, Sequences, places_of, with_part

KEY = ("user", "item_index", "timestamp")  # of which there is one event
PART = (*KEY, "label", "rating")  # what `ItemEvents` have
SPARE_EVENTS = 2**16  # rows that are free at first, and a quarter more than there are


class _Room:
    """Number of used rows of columns."""

    def __init__(self, used: int) -> None:
        self.used = used


@dataclass(frozen=True, eq=False)
class LiveSequences(Sequences):
    """Sequences whose users' events are in any order, in columns with spare rows; they have no offsets.

    To add an event, all events of its user are written again, after the others. Written rows never change, so that
    earlier sequences on the same columns stay valid.
    """

    runs: np.ndarray  # int64, (2, users): where the events of each user begin and end
    newest: int  # second of the last event
    parts: tuple[ItemEvents, ...]  # see `by_item`
    room: _Room  # of the columns, whichever sequences take of it

    @classmethod
    def from_sequences(cls, sequences: Sequences, least_room: int = 0) -> Self:
        """Copy sequences, with a quarter more rows, at least `least_room`."""
        lengths = sequences.ends - sequences.starts
        events, ends = places_of(sequences.starts, sequences.ends), lengths.cumsum()
        columns = {}
        for name, column in sequences.columns.items():
            columns[name] = np.zeros(len(events) + max(len(events) // 4 + SPARE_EVENTS, least_room), column.dtype)
            columns[name][: len(events)] = column[events]
        roomy = sequences.from_columns(np.array([0, len(columns["label"])]), sequences.schema, **columns)
        return cls(
            **vars(roomy) | {"offsets": np.empty(0, dtype=np.int64)},
            runs=np.stack([ends - lengths, ends]),
            newest=sequences.last_second if len(events) else 0,
            parts=sequences.by_item,
            room=_Room(len(events)),
        )

    @property
    def starts(self) -> np.ndarray:
        return self.runs[0]

    @property
    def ends(self) -> np.ndarray:
        return self.runs[1]

    @property
    def last_second(self) -> int:
        return self.newest

    @property
    def is_full(self) -> bool:
        return len(self.label) - self.room.used < SPARE_EVENTS // 2

    @property
    def by_item(self) -> tuple[ItemEvents, ...]:
        return self.parts

    def with_users(self, users: int) -> Self:
        """Return a copy with further users, without events."""
        return replace(self, runs=np.pad(self.runs, ((0, 0), (0, users))))

    def with_events(self, rows: Mapping[str, np.ndarray], users: np.ndarray, best: int) -> Self:
        """Return a copy in which users, ascending, have the given events alone; one of each user, item and second.

        Args:
            rows: columns and user of the events.
            best: 1 to keep the event with the highest rating, -1 for the lowest.
        """
        old = self.of_users(users)
        owner, item, second = (rows[name] for name in KEY)
        if self.room.used + len(owner) > len(self.label):
            return self.from_sequences(self, len(owner)).with_events(rows, users, best)
        ranks = (-rank for rank in reversed(self.schema.ranks(rows)))
        order = np.lexsort((*ranks, -best * rows["rating"], item, second, owner))
        kept = order[_first_of_runs(owner[order], second[order], item[order])]
        kept = kept[np.lexsort((kept, second[kept], owner[kept]))]  # those of one second in the order of arrival
        new = {name: column[kept] for name, column in rows.items()}
        place = self.room.used
        self.room.used += len(kept)
        for name, column in self.columns.items():
            column[place : place + len(kept)] = new[name]
        lengths = np.bincount(np.searchsorted(users, new["user"]), minlength=len(users))
        runs = self.runs.copy()
        runs[1, users] = place + lengths.cumsum()
        runs[0, users] = runs[1, users] - lengths
        removed, added = _differences(old, new)
        newest = max(self.newest, int(new["timestamp"].max(initial=0)))
        if len(removed.user) and removed.timestamp.max() == self.newest:
            last = runs[1, runs[1] > runs[0]] - 1
            newest = int(self.timestamp[last].max(initial=0))
        sequences = replace(self, runs=runs, newest=newest)
        return replace(sequences, parts=sequences._parts_with(removed, added))

    def of_users(self, users: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns and user of the events of users."""
        starts, ends = self.starts[users], self.ends[users]
        events = places_of(starts, ends)
        own = {name: column[events] for name, column in self.columns.items()}
        return {"user": np.repeat(users, ends - starts)} | own

    def _parts_with(self, removed: ItemEvents, added: ItemEvents) -> tuple[ItemEvents, ...]:
        """Return the parts with changes; all in one once what was removed is not few beside the largest part."""
        counted, others = (tuple(part for part in self.parts if part.sign == sign) for sign in (1, -1))
        if len(added.user):
            counted = with_part(counted, added)
        if len(removed.user):
            others = with_part(others, removed)
        if LEAST_RATIO * sum(len(part.user) for part in others) <= len(counted[0].user):
            return (*counted, *others)
        every = self.of_users(np.arange(len(self.starts)))
        return (ItemEvents(*(every[name] for name in PART)),)


def _first_of_runs(*keys: np.ndarray) -> np.ndarray:
    """Return whether each row differs from the one before in any key."""
    return np.append(np.full(min(1, len(keys[0])), True), np.any([key[1:] != key[:-1] for key in keys], axis=0))


def _differences(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> tuple[RemovedEvents, ItemEvents]:
    """Return the old events that are not among the new ones, and the reverse."""
    both = {name: np.append(old[name], new[name]) for name in PART}
    order = np.lexsort([both[name] for name in PART])
    opens = _first_of_runs(*(both[name][order] for name in PART))
    is_single = opens & np.append(opens[1:], np.full(min(1, len(opens)), True))  # else in both, once in each
    single = np.sort(order[is_single])
    removed, added = single[single < len(old["user"])], single[single >= len(old["user"])]
    parts = ({name: column[places] for name, column in both.items()} for places in (removed, added))
    before, after = ([part[name] for name in PART] for part in parts)
    return RemovedEvents(*before), ItemEvents(*after)
