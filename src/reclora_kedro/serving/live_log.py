"""The current log: a model's log with the events of the journal inserted, in sequences that grow without a copy."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl

from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sent_events import distinct_events, first_of_runs, sent_columns
from reclora_kedro.history.sequences import (
    LEAST_RATIO,
    ItemEvents,
    RemovedEvents,
    Sequences,
    places_of,
    user_of_events,
    with_part,
)
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import with_sent_items
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.ingestion.ids import is_id
from reclora_kedro.serving.journal import Changes, Content, UserContent
from reclora_kedro.serving.journal_tables import Event, item_values

SPARE_USERS = 256  # least rows of users to come that are added at once: what the log is read by has to grow with it
EVENT = ("user", "item_index", "timestamp")  # of which there is one event
PART = (*EVENT, "label", "rating")  # what `ItemEvents` have
SPARE_EVENTS = 2**16  # rows that are free at first, and a quarter more than there are
UNCHANGED = np.array([], dtype=np.int64)
ALWAYS = np.iinfo(np.int64).max  # a second after all events


@dataclass(frozen=True, eq=False)
class LiveSequences(Sequences):
    """Sequences whose users' events are in any order, in columns with spare rows; they have no offsets.

    To add an event, all events of its user are written again, after the others. Written rows never change, so that
    earlier sequences on the same columns stay valid.
    """

    runs: np.ndarray  # int64, (2, users): where the events of each user begin and end
    newest: int  # second of the last event
    parts: tuple[ItemEvents, ...]  # see `by_item`
    room: list[int]  # of one number, the used rows of the columns, whichever sequences take of it

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
            room=[len(events)],
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
    def by_item(self) -> tuple[ItemEvents, ...]:
        return self.parts

    def with_users(self, users: int) -> Self:
        """Return a copy with further users, without events."""
        return replace(self, runs=np.pad(self.runs, ((0, 0), (0, users))))

    def with_events(self, rows: Mapping[str, np.ndarray], users: np.ndarray, best: int) -> Self:
        """Return a copy in which users, ascending, have events of the given columns and user alone.

        Of each user, item and second, one is kept: if `best` is 1, with the highest rating, if -1, with the lowest.
        """
        old = self.of_users(users)
        if self.room[0] + len(rows["user"]) > len(self.label):
            return self.from_sequences(self, len(rows["user"])).with_events(rows, users, best)
        kept = distinct_events(rows, self.schema, best)
        new = {name: column[kept] for name, column in rows.items()}
        place = self.room[0]
        self.room[0] += len(kept)
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

    def settled(self, users: int) -> Sequences:
        """Return the events of the first users as a log stores them."""
        columns, lengths = self.of_users(np.arange(users)), (self.ends - self.starts)[:users]
        del columns["user"]
        return self.from_columns(np.append(0, lengths.cumsum()), self.schema, **columns)

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


class _Users(ChainMap[str, int]):
    """Indices by id of users in several maps, at most one of which has an id."""

    def __len__(self) -> int:
        return sum(map(len, self.maps))


class CurrentLog(NamedTuple):
    """A log without samples, whose last rows of users have no id and serve future users."""

    log: InteractionLog
    users: _Users
    n_named: int  # number of first rows of users that have, or had, an id
    before: InteractionLog | None  # the log that this one was made from; None if it was built anew
    changed: np.ndarray  # indices of the users whose events differ from those in `before`


class LiveLog:
    """A model's log and the events that the journal adds to it.

    Users and items of the current model keep their indices. `current` has what ingestion and history would make of the
    added events: events of an unknown item wait in the journal; of one user, item and second, one is kept by
    `ingestion.duplicates`. New events of one user and second are in the order of arrival, after those of that model.
    Events that the current model's update quarantined, `withheld` by user, item and second, are left out. Items may get
    other values; `items_wait` says whether the journal has new ones, or other texts, for which a model has to be made.
    """

    def __init__(
        self,
        base_log: InteractionLog,
        config: IngestionConfig,
        content: Content,
        withheld: frozenset[tuple[str, str, int]] = frozenset(),
    ) -> None:
        self._base, self._config, self._lock, self._withheld = base_log, config, Lock(), withheld
        self.item_ids, self.titles = (base_log.items[name].cast(pl.String).to_list() for name in ("item_id", "title"))
        self.items = {item: index for index, item in enumerate(self.item_ids)}
        self.user_type, self.item_type = base_log.users.schema["user_id"], base_log.items.schema["item_id"]
        rating, first = np.unique(base_log.sequences.rating, return_index=True)
        levels = base_log.sequences.rating_level[first]
        self._best = 1 if config.duplicates == "highest_rating" else -1
        self._ratings = replace(base_log.sequences, rating=rating, rating_level=levels)
        self._known = {str(user): index for index, user in enumerate(base_log.users["user_id"])}
        self._forgotten, self._gone = NOBODY, list[int]()
        self._pending, self._rewritten = list[Event](), dict[str, UserContent]()
        self.apply(content)

    def apply(self, change: Changes | Content) -> None:
        """Take changes of the journal, or rebuild from its whole content."""
        with self._lock:
            if isinstance(change, Content):
                self._items, self.items_wait = self._base.items, False
                self._forget(change.forgotten)
                log = self._without_dropped(change.dropped)
                self._current = CurrentLog(log, _Users({}, self._known), self._base.users.height, None, UNCHANGED)
                self._pending, self._rewritten = [], {}
            elif users := change.users:
                self._pending = [event for event in self._pending if event.user_id not in users]
                self._rewritten |= users
            self._take_items(item_values(change.events))
            self._pending += (event for event in change.events if event.user_id)

    def _take_items(self, rows: Sequence[tuple[str, str | None]]) -> None:
        """Take other values of items; what has other texts waits for a model that reads them."""
        if rows:
            grown = with_sent_items(self._items, rows)
            own = pl.col("item_id").cast(pl.String).is_in([item for item, _ in rows])
            now, before = (describe_items(items.filter(own)) for items in (grown, self._items))
            if now == before:
                self._items = grown
            else:
                self.items_wait = True

    def item(self, index: int) -> dict[str, Any]:
        return {"item": self.item_ids[index], "title": self.titles[index]}

    def some_users(self, limit: int) -> list[str]:
        """Return ids of the first users of the current model's log who are not forgotten."""
        return list(islice(self._known, limit))

    def current(self) -> CurrentLog:
        """Return the log with all changes; the same object until there are more."""
        with self._lock:
            before = self._current
            if self._items is not before.log.items:
                log = replace(before.log, items=self._items)
                self._current = before = before._replace(log=log, before=before.log, changed=UNCHANGED)
            if self._rewritten or self._pending:
                self._current = self._changed(before)
                self._rewritten, self._pending = {}, []
            elif len((sequences := _live(before.log)).label) - sequences.room[0] < SPARE_EVENTS // 2:  # after visitors
                roomy = replace(before.log, sequences=LiveSequences.from_sequences(sequences))
                self._current = before._replace(log=roomy, before=before.log, changed=UNCHANGED)
            return self._current

    def with_visitor(self, log: InteractionLog, history: Sequence[Event]) -> tuple[InteractionLog, int]:
        """Return a log with the events of a user who is not stored, and that user's index."""
        visitor = log.users.height - 1  # at least one row is always spare
        if history:
            with self._lock:
                sequences, columns = self._read(_live(log), [(visitor, event) for event in history])
                log = replace(log, sequences=sequences.with_events(columns, np.array([visitor]), self._best))
        return log, visitor

    def _forget(self, forgotten: ForgottenUsers) -> None:
        """Take the ids of forgotten users off the current model's; their rows stay, without events."""
        if forgotten != self._forgotten:
            users = enumerate(self._base.users["user_id"].cast(pl.String))
            known = {user: index for index, user in users if user not in forgotten}
            self._gone = sorted({*range(self._base.users.height)} - {*known.values()})
            self._forgotten, self._known = forgotten, known

    def _without_dropped(self, dropped: dict[str, int]) -> InteractionLog:
        """Return the current model's log without samples and what is dropped or forgotten, with rows for new users."""
        log = replace(self._base, samples=self._base.samples.clear())
        until = {self._known[user]: moment for user, moment in dropped.items() if user in self._known}
        until |= dict.fromkeys(self._gone, ALWAYS)
        sequences = log.sequences
        if until:
            last = np.full(log.users.height, -1)
            last[list(until)] = list(until.values())
            sequences = sequences.where(sequences.timestamp > last[user_of_events(sequences.offsets)])
        log = replace(log, sequences=LiveSequences.from_sequences(sequences))
        return _with_rows_of_users(log, SPARE_USERS)

    def _changed(self, before: CurrentLog) -> CurrentLog:
        """Return the log with the events that rewritten users have now, and with pending ones of any user."""
        log, users, base, rewritten = before.log, before.users, self._base.sequences, self._rewritten
        of_rewritten = (event for content in rewritten.values() for event in content.events)
        events = self._readable([*of_rewritten, *self._pending])
        named = dict.fromkeys(event.user_id for event in events)
        replaced = [users[user] for user in rewritten if user in users]
        if gone := {user for user in rewritten if user in users.maps[0] and user not in named}:
            is_free = pl.int_range(pl.len()).is_in([users[user] for user in gone])
            log = replace(log, users=log.users.with_columns(user_id=pl.when(~is_free).then("user_id")))
            users = _Users({user: index for user, index in users.maps[0].items() if user not in gone}, self._known)
        n_named = before.n_named
        if new := [user for user in named if user not in users]:
            log = self._with_users(log, n_named, new)
            users = _Users({**users.maps[0], **{user: n_named + n for n, user in enumerate(new)}}, self._known)
        rows = [(users[event.user_id], event) for event in events]
        added = np.setdiff1d([user for user, _ in rows], replaced).astype(np.int64)
        changed = np.union1d(added, replaced).astype(np.int64)
        if len(changed):
            sequences, columns = self._read(_live(log), rows)
            of_base = [UNCHANGED]
            for user in filter(self._known.__contains__, rewritten):
                own, until = np.arange(base.starts[users[user]], base.ends[users[user]]), rewritten[user].until
                of_base.append(own if until is None else own[base.timestamp[own] > until])
            kept = np.concatenate(of_base)
            parts = [{name: column[kept] for name, column in base.columns.items()}, sequences.of_users(added), columns]
            parts[0]["user"] = np.searchsorted(base.ends, kept, side="right")
            columns = {name: np.concatenate([part[name] for part in parts]) for name in columns}
            log = replace(log, sequences=sequences.with_events(columns, changed, self._best))
        return CurrentLog(log, users, n_named + len(new), before.log, changed)

    def _with_users(self, log: InteractionLog, n_named: int, new: Sequence[str]) -> InteractionLog:
        """Give new users rows that are spare, of which at least one is left."""
        if n_named + len(new) >= log.users.height:
            log = _with_rows_of_users(log, len(new) + max(SPARE_USERS, n_named // 8))
        spare = [None] * (log.users.height - n_named - len(new))
        ids = pl.concat([log.users["user_id"][:n_named], pl.Series([*new, *spare]).cast(self.user_type)])
        return replace(log, users=log.users.with_columns(user_id=ids))

    def _readable(self, events: Sequence[Event]) -> list[Event]:
        """Return events without impressions that were not clicked, ids of other types, and what updates keep out."""
        return [
            event
            for event in events
            if event.rating is not None
            and event.item_id in self.items
            and is_id(event.user_id, self.user_type)
            and (event.user_id, event.item_id, event.timestamp) not in self._withheld
        ]

    def _read(
        self, sequences: LiveSequences, rows: Sequence[tuple[int, Event]]
    ) -> tuple[LiveSequences, dict[str, np.ndarray]]:
        """Return the columns of sequences, and user, of users' events; and the sequences with codes for their texts."""
        rating, texts = [event.rating for _, event in rows], [event.columns for _, event in rows]
        schema, columns = sent_columns(rating, texts, sequences.schema, self._ratings, self._config)
        columns |= {
            "user": np.array([user for user, _ in rows], dtype=np.int64),
            "item_index": np.array([self.items[event.item_id] for _, event in rows], dtype=np.int32),
            "timestamp": np.array([event.timestamp for _, event in rows], dtype=np.int64),
        }
        return replace(sequences, schema=schema), columns


def _live(log: InteractionLog) -> LiveSequences:
    assert isinstance(log.sequences, LiveSequences)  # as those of any log that has been made here
    return log.sequences


def _with_rows_of_users(log: InteractionLog, rows: int) -> InteractionLog:
    """Add users without ids and attributes to a log."""
    nobody = pl.DataFrame({name: [None] * rows for name in log.users.columns}, log.users.schema)
    return replace(log, users=pl.concat([log.users, nobody]), sequences=_live(log).with_users(rows))


def _differences(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> tuple[RemovedEvents, ItemEvents]:
    """Return the old events that are not among the new ones, and the reverse."""
    both = {name: np.append(old[name], new[name]) for name in PART}
    order = np.lexsort([both[name] for name in PART])
    opens = first_of_runs(*(both[name][order] for name in PART))
    is_single = opens & np.append(opens[1:], np.full(min(1, len(opens)), True))  # else in both, once in each
    single = np.sort(order[is_single])
    removed, added = single[single < len(old["user"])], single[single >= len(old["user"])]
    parts = ({name: column[places] for name, column in both.items()} for places in (removed, added))
    before, after = ([part[name] for name in PART] for part in parts)
    return RemovedEvents(*before), ItemEvents(*after)
