"""The current log: a model's log with the events of the journal inserted."""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import levels_as_before, user_of_events
from reclora_kedro.ingestion.cleaning import liked
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.ingestion.ids import is_id
from reclora_kedro.serving.journal import Changes, Content, UserContent
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_sequences import LiveSequences

SPARE_USERS = 256  # least rows of users to come that are added at once: what the log is read by has to grow with it
Key = tuple[str, str, int]
UNCHANGED = np.array([], dtype=np.int64)
ALWAYS = np.iinfo(np.int64).max


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

    Args:
        withheld: user, item and second of events that the current model's update quarantined, which are left out.
    """

    def __init__(
        self,
        base_log: InteractionLog,
        config: IngestionConfig,
        content: Content,
        withheld: frozenset[Key] = frozenset(),
    ) -> None:
        self._base, self._config, self._lock, self._withheld = base_log, config, Lock(), withheld
        self.item_ids, self.titles = (base_log.items[name].cast(pl.String).to_list() for name in ("item_id", "title"))
        self.items = {item: index for index, item in enumerate(self.item_ids)}
        self.user_type, self.item_type = base_log.users.schema["user_id"], base_log.items.schema["item_id"]
        rating, first = np.unique(base_log.sequences.rating, return_index=True)
        levels = base_log.sequences.rating_level[first]
        self._ratings = replace(base_log.sequences, rating=rating, rating_level=levels)
        self._known = {str(user): index for index, user in enumerate(base_log.users["user_id"])}
        self._forgotten, self._gone = NOBODY, list[int]()
        self._pending, self._rewritten = list[Event](), dict[str, UserContent]()
        self.apply(content)

    def apply(self, change: Changes | Content) -> None:
        """Take changes of the journal, or rebuild from its whole content."""
        with self._lock:
            if isinstance(change, Content):
                self._forget(change.forgotten)
                log = self._without_dropped(change.dropped)
                self._current = CurrentLog(log, _Users({}, self._known), self._base.users.height, None, UNCHANGED)
                self._pending, self._rewritten = [], {}
            elif users := change.users:
                self._pending = [event for event in self._pending if event.user_id not in users]
                self._rewritten |= users
            self._pending += change.events

    def some_users(self, limit: int) -> list[str]:
        """Return ids of the first users of the current model's log who are not forgotten."""
        return list(islice(self._known, limit))

    def current(self) -> CurrentLog:
        """Return the log with all changes; the same object until there are more."""
        with self._lock:
            before = self._current
            if self._rewritten or self._pending:
                self._current = self._changed(before)
                self._rewritten, self._pending = {}, []
            elif (sequences := _live(before.log)).is_full:  # of events of visitors
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

    @property
    def _best(self) -> int:
        return 1 if self._config.duplicates == "highest_rating" else -1

    def _read(
        self, sequences: LiveSequences, rows: Sequence[tuple[int, Event]]
    ) -> tuple[LiveSequences, dict[str, np.ndarray]]:
        """Return the columns of sequences, and user, of users' events; and the sequences with codes for their texts."""
        declared = sequences.schema.parsed(event.columns for _, event in rows)
        schema = sequences.schema.recognising(declared)
        exact = pl.DataFrame({"rating": [event.rating for _, event in rows]}, {"rating": pl.Float64})
        rating = exact["rating"].to_numpy().astype(np.float32)
        label = exact.select(liked(self._config)[0].cast(pl.Int8))  # of the rating that ingestion compares
        columns: dict[str, np.ndarray] = {
            "user": np.array([user for user, _ in rows], dtype=np.int64),
            "item_index": np.array([self.items[event.item_id] for _, event in rows], dtype=np.int32),
            "rating": rating,
            "rating_level": levels_as_before(rating, self._ratings),
            "label": np.broadcast_to(label.to_series().to_numpy(), rating.shape),
            "timestamp": np.array([event.timestamp for _, event in rows], dtype=np.int64),
        }
        return replace(sequences, schema=schema), columns | schema.encoded(declared)


def _live(log: InteractionLog) -> LiveSequences:
    assert isinstance(log.sequences, LiveSequences)  # as those of any log that has been made here
    return log.sequences


def _with_rows_of_users(log: InteractionLog, rows: int) -> InteractionLog:
    """Add users without ids and attributes to a log."""
    nobody = pl.DataFrame({name: [None] * rows for name in log.users.columns}, log.users.schema)
    return replace(log, users=pl.concat([log.users, nobody]), sequences=_live(log).with_users(rows))
