"""The log as it is now: a champion's log with the events of the journal in their places."""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import Sequences, levels_as_before, user_of_events
from reclora_kedro.interactions.cleaning import liked
from reclora_kedro.interactions.config import IngestionConfig
from reclora_kedro.serving.journal import Content, Event

SPARE_USERS = 256  # rows of users to come, which are added at once: what the log is read by has to grow with it


class _Users(ChainMap[str, int]):
    """Indices by id, of users to whom no more than one of the maps gives one."""

    def __len__(self) -> int:
        return sum(map(len, self.maps))


class CurrentLog(NamedTuple):
    """A log without samples, whose users end with rows without an id, for users to come."""

    log: InteractionLog
    users: _Users


class LiveLog:
    """A champion's log and what the journal adds to it.

    The champion's users and items keep their indices. Whatever has been added is in `current` as ingestion and history
    would have it: events of an unknown item wait in the journal; of one user, item and second one is kept by
    `ingestion.duplicates`.

    Args:
        champion_log: the log that the champion was made with.
        config: of its ingestion.
        content: what the journal holds.
    """

    def __init__(self, champion_log: InteractionLog, config: IngestionConfig, content: Content) -> None:
        self._base, self._config, self._lock = champion_log, config, Lock()
        self.item_ids, self.titles = (
            champion_log.items[name].cast(pl.String).to_list() for name in ("item_id", "title")
        )
        self.items = {item: index for index, item in enumerate(self.item_ids)}
        self.user_type = champion_log.users.schema["user_id"]
        rating, first = np.unique(champion_log.sequences.rating, return_index=True)
        levels = champion_log.sequences.rating_level[first]
        self._ratings = replace(champion_log.sequences, rating=rating, rating_level=levels)
        self._known = {str(user): index for index, user in enumerate(champion_log.users["user_id"])}
        self.apply(content)

    def apply(self, change: list[Event] | Content) -> None:
        """Add events of the journal, or begin anew with all that it holds."""
        with self._lock:
            if isinstance(change, Content):
                self._current = CurrentLog(self._without_dropped(change.dropped), _Users({}, self._known))
                self._pending = [*change.events]
            else:
                self._pending += change

    def current(self) -> CurrentLog:
        """The log with all that has been added; the same object until more is."""
        with self._lock:
            if self._pending:
                self._current = self._with_events(*self._current, self._pending)
                self._pending = []
            return self._current

    def with_visitor(self, log: InteractionLog, history: Sequence[Event]) -> tuple[InteractionLog, int]:
        """A log with the events of a user who is not to be stored, and that user's index."""
        visitor = log.users.height - 1  # at least one row is always spare
        return replace(log, sequences=self._inserted(log.sequences, [(visitor, event) for event in history])), visitor

    def _without_dropped(self, dropped: dict[str, int]) -> InteractionLog:
        """The champion's log without samples and dropped events, with rows for users to come."""
        log = replace(self._base, samples=self._base.samples.clear())
        until = {self._known[user]: moment for user, moment in dropped.items() if user in self._known}
        if until:
            sequences, user = log.sequences, user_of_events(log.sequences.offsets)
            last = np.full(log.users.height, -1)
            last[list(until)] = list(until.values())
            kept = sequences.timestamp > last[user]
            events = {name: column[kept] for name, column in vars(sequences).items() if name != "offsets"}
            counts = np.bincount(user[kept], minlength=log.users.height)
            log = replace(log, sequences=Sequences(np.concatenate([[0], counts.cumsum()]), **events))
        return _with_rows_of_users(log, SPARE_USERS)

    def _with_events(self, log: InteractionLog, users: _Users, events: Sequence[Event]) -> CurrentLog:
        """The log with further events; what was shown and not clicked is none."""
        events = [event for event in events if event.rating is not None and event.item_id in self.items]
        new = [user for user in dict.fromkeys(event.user_id for event in events) if user not in users]
        if new:
            known = len(users)
            if known + len(new) >= log.users.height:
                log = _with_rows_of_users(log, len(new) + SPARE_USERS)
            spare = [None] * (log.users.height - known - len(new))
            ids = pl.concat([log.users["user_id"][:known], pl.Series([*new, *spare]).cast(self.user_type)])
            log = replace(log, users=log.users.with_columns(user_id=ids))
            users = _Users({**users.maps[0], **{user: known + place for place, user in enumerate(new)}}, self._known)
        rows = [(users[event.user_id], event) for event in events]
        return CurrentLog(replace(log, sequences=self._inserted(log.sequences, rows)), users)

    def _inserted(self, sequences: Sequences, rows: Sequence[tuple[int, Event]]) -> Sequences:
        """Sequences with the events of users, by index, in their places by time and item."""
        if not rows:
            return sequences
        user = np.array([user for user, _ in rows], dtype=np.int64)
        item = np.array([self.items[event.item_id] for _, event in rows], dtype=np.int32)
        second = np.array([event.timestamp for _, event in rows], dtype=np.int64)
        rating = np.array([event.rating for _, event in rows], dtype=np.float32)
        label = pl.DataFrame({"rating": rating.astype(float)}).select(liked(self._config)[0].cast(pl.Int8))
        new = {
            "item_index": item,
            "rating": rating,
            "rating_level": levels_as_before(rating, self._ratings),
            "label": np.broadcast_to(label.to_series().to_numpy(), rating.shape),
            "timestamp": second,
        }
        sign = (
            -1 if self._config.duplicates == "highest_rating" else 1
        )  # of two equal events, the better one sorts first
        columns = {name: getattr(sequences, name).copy() for name in new}
        places, kept, last = list[int](), list[int](), None
        for row in np.lexsort((sign * rating, item, second, user)).tolist():
            key = user[row], second[row], item[row]
            if key == last:
                continue
            last = key
            place, is_there = _place(sequences, *key)
            if not is_there:
                places.append(place)
                kept.append(row)
            elif sign * rating[row] < sign * columns["rating"][place]:
                for name, column in columns.items():
                    column[place] = new[name][row]
        counts = np.bincount(user[kept], minlength=len(sequences.offsets) - 1)
        offsets = sequences.offsets + np.concatenate([[0], counts.cumsum()])
        return Sequences(offsets, **{name: np.insert(columns[name], places, new[name][kept]) for name in columns})


def _place(sequences: Sequences, user: int, second: int, item: int) -> tuple[int, bool]:
    """Where an event belongs among the flat ones, and whether it is there."""
    first, end = sequences.offsets[user : user + 2]
    seconds = sequences.timestamp[first:end]
    low, high = first + np.searchsorted(seconds, second), first + np.searchsorted(seconds, second, side="right")
    place = low + np.searchsorted(sequences.item_index[low:high], item)
    return int(place), bool(place < high and sequences.item_index[place] == item)


def _with_rows_of_users(log: InteractionLog, rows: int) -> InteractionLog:
    """The log with further users of whom nothing is known, not even an id."""
    nobody = pl.DataFrame({name: [None] * rows for name in log.users.columns}, log.users.schema)
    offsets = np.pad(log.sequences.offsets, (0, rows), mode="edge")
    return replace(log, users=pl.concat([log.users, nobody]), sequences=replace(log.sequences, offsets=offsets))
