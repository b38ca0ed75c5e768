"""Sequences to which events can be added without copying them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from reclora_kedro.history.sequences import ItemEvents, Sequences, places_of, with_part

COLUMNS = ("item_index", "rating", "rating_level", "label", "timestamp")
SPARE_EVENTS = 2**16  # rows that are free at first, and a quarter more than there are


class _Room:
    """Number of used rows of columns."""

    def __init__(self, taken: int) -> None:
        self.taken = taken


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
        for name in COLUMNS:
            column = getattr(sequences, name)
            columns[name] = np.zeros(len(events) + max(len(events) // 4 + SPARE_EVENTS, least_room), column.dtype)
            columns[name][: len(events)] = column[events]
        return cls(
            offsets=np.empty(0, dtype=np.int64),
            **columns,
            runs=np.stack([ends - lengths, ends]),
            newest=sequences.last_second if len(events) else 0,
            parts=sequences.by_item(),
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
        return len(self.label) - self.room.taken < SPARE_EVENTS // 2

    def by_item(self) -> tuple[ItemEvents, ...]:
        return self.parts

    def counts_after(self, second: float, items: int) -> np.ndarray:
        item, begin = np.arange(items), np.full(items, int(second // 1) + 1)
        ranges = [(part.log.range_before(item, begin)[1], part.log.range_of(item)[1]) for part in self.parts]
        return np.sum([end - start for start, end in ranges], axis=0)

    def with_users(self, users: int) -> Self:
        """Return a copy with further users, without events."""
        return replace(self, runs=np.pad(self.runs, ((0, 0), (0, users))))

    def with_events(self, user: np.ndarray, columns: Mapping[str, np.ndarray], best: int) -> Self:
        """Return a copy with further events; of one user, item and second, one is kept.

        Args:
            best: 1 to keep the event with the highest rating, -1 for the lowest.
        """
        users = np.unique(user)
        starts, ends = self.starts[users], self.ends[users]
        old, count = places_of(starts, ends), len(user)
        if self.room.taken + len(old) + count > len(self.label):
            return self.from_sequences(self, len(old) + count).with_events(user, columns, best)
        owner = np.append(np.repeat(users, ends - starts), user)
        events = {name: np.append(getattr(self, name)[old], columns[name]) for name in COLUMNS}
        item, second = events["item_index"], events["timestamp"]
        order = np.lexsort((-best * events["rating"], item, second, owner))
        differ = [key[order][1:] != key[order][:-1] for key in (owner, second, item)]
        first = np.append(True, np.any(differ, axis=0))
        kept, is_dropped = order[first], order[~first]
        kept = kept[np.lexsort((kept, second[kept], owner[kept]))]  # those of one second in the order of arrival
        is_dropped, new = is_dropped[is_dropped < len(old)], kept[kept >= len(old)]
        parts = self.parts
        if len(is_dropped):
            parts = tuple(part.without(owner[is_dropped], item[is_dropped], second[is_dropped]) for part in parts)
        if len(new):
            new_events = (owner, item, second, events["label"], events["rating"])
            parts = with_part(parts, ItemEvents(*(column[new] for column in new_events)))
        place = self.room.taken
        self.room.taken += len(kept)
        for name, column in events.items():
            getattr(self, name)[place : place + len(kept)] = column[kept]
        lengths = np.bincount(np.searchsorted(users, owner[kept]))
        runs = self.runs.copy()
        runs[1, users] = place + lengths.cumsum()
        runs[0, users] = runs[1, users] - lengths
        return replace(self, runs=runs, newest=max(self.newest, int(second[kept].max())), parts=parts)
