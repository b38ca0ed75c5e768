"""The journal: the events and items that the service has acknowledged, in an SQLite file or a database of PostgreSQL.

An event is durable before its sender is answered. One thread of each process writes; events that arrive during a commit
are committed together. Several services may share a journal: before it answers, each reads what the others have
committed.

Whatever the journal holds, no answer reads events of forgotten users: a commit reads who they are while it holds the
lock, and drops their events; a reader leaves out those that it finds, as in a restored backup, and erases them.
"""

import json
import logging
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.serving.journal_databases import JournalDatabase, in_a_line, reading
from reclora_kedro.serving.journal_tables import (
    CHANGED,
    DELETE_DROPPED,
    DROPPED,
    DROPPED_UNTIL,
    Connection,
    Event,
    JournalError,
    Place,
    add_event,
    delete_event,
    delete_events,
    drop_until,
    erase_users,
    item_row,
    note_change,
    read_place,
    stored_event,
    stored_events,
)

logger = logging.getLogger(__name__)

PAUSE = 10  # times the seconds of a failed try to read, until the next one: answers go on meanwhile
T = TypeVar("T")


class Content(NamedTuple):
    """The whole content of a journal, without forgotten users."""

    events: list[Event]  # in the order in which they were acknowledged
    dropped: dict[str, int]  # by user, the second until which all their events are dropped
    forgotten: ForgottenUsers = NOBODY  # whose events no log may hold


class UserContent(NamedTuple):
    """All that a journal has of a user."""

    events: list[Event]
    until: int | None  # second until which all earlier events are dropped, if any


class Changes(NamedTuple):
    """What commits have changed."""

    events: list[Event]  # new ones, of other users than the following
    users: Mapping[str, UserContent] = {}  # those with events that were changed or dropped, and what is left of each


class Added(NamedTuple):
    """Numbers of events that were stored, and that were dropped as their users are forgotten."""

    stored: int
    of_forgotten: int


class NotStoredError(RuntimeError):
    """A write was not stored, for example because the disk is full."""


class NotAppliedError(RuntimeError):
    """A write is stored, but answers do not reflect it."""


class MaybeStoredError(RuntimeError):
    """The connection was lost during a commit, so that nobody knows whether a write is stored."""


class EventConflictError(ValueError):
    """An event `sent` has the event_id of another event that is `stored`."""

    def __init__(self, stored: Event, sent: Event) -> None:
        super().__init__(f"The journal has another event with the event_id {sent.event_id}.")
        self.stored, self.sent = stored, sent


class ItemExistsError(ValueError):
    """An item was sent as a new one, but there is one of its id with other values."""


class _Job(NamedTuple):
    work: Callable[[Connection], Any]
    future: "Future[Any]"


class Journal:
    """A journal, which other services may use at the same time.

    Args:
        listen: called with the changes of each commit, before their senders are answered, and by `refresh` with those
            of other services; after users were erased, or a connection was lost, with the journal's whole content.
        observe_fault: called with the step that failed, one of `metrics.STEPS`.
        forgotten: returns who is forgotten now, at every commit and before reading; if it fails, nothing is stored.

    JournalError is raised if the database cannot be written.
    """

    def __init__(
        self,
        database: JournalDatabase,
        listen: Callable[[Changes | Content], None],
        observe_fault: Callable[[str], None] = lambda step: None,
        forgotten: Callable[[], ForgottenUsers] = lambda: NOBODY,
    ) -> None:
        self._database, self._listen, self._observe_fault = database, listen, observe_fault
        self._forgotten, self._excluded = forgotten, NOBODY
        try:
            self._connection, self._reader = database.connect(), database.connect()
            self._place = read_place(self._reader)
        except (OSError, database.Error) as error:
            raise JournalError(
                f"The journal cannot be kept in {database.address}: {in_a_line(error)}. Name a file or a database "
                "that can be written in service.journal."
            ) from error
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._reading, self._has_remains, self._is_behind = Lock(), False, False
        self._seen: Place | None = self._place  # by the last look, of which the listener may have failed to be told
        self._next_look = 0.0
        self._unstored: str | None = None
        self._unread: str | None = None
        self._identity = database.identify()
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Reason why a write is not stored or not reflected by answers; None if all is well."""
        return self._unstored or self._unread or self._replacement()

    def _replacement(self) -> str | None:
        """Return what is wrong if the names no longer lead to the files that are written; None if they do."""
        if self._database.identify() == self._identity:
            return None
        return (
            f"The journal {self._database.address} or its write-ahead log was removed or replaced while the service "
            "ran, so that what it writes is lost. Put the right one in place, and start the service anew."
        )

    def _require_in_place(self) -> None:
        if reason := self._replacement():
            raise JournalError(reason)

    def add(
        self, events: Sequence[Event], replace: bool = False, without_time: Collection[str] = ()
    ) -> "Future[Added]":
        """Add events, all or none, each event_id once; known ones, and those of forgotten users, are left out.

        An event may `replace` one of the same user with its event_id; the future raises `EventConflictError` for any
        other event with it. Events sent `without_time`, by id, equal stored ones of any time.
        """

        def insert(connection: Connection) -> Added:
            added, kept = 0, [event for event in events if event.user_id not in self._excluded]
            for event in kept:
                if (stored := stored_event(connection, event.event_id)) is not None:
                    same = event if event.event_id not in without_time else event._replace(timestamp=stored.timestamp)
                    if same == stored:
                        continue
                    if not replace or stored.user_id != event.user_id:
                        raise EventConflictError(stored, event)
                    delete_event(connection, stored)
                    self._note_change(connection, event.user_id)
                add_event(connection, event)
                added += 1
            return Added(added, len(events) - len(kept))

        return self._submit(insert)

    def put_items(
        self, rows: Sequence[Event], known: Container[str], *, replace: bool, erase: bool = False
    ) -> "Future[int]":
        """Store values of items, see `item_row`, all or none; the future has how many rows were changed.

        They `replace` those of the same columns, and what else is stored stays unless it is to be erased. The future
        raises ItemExistsError for an item that is `known` or stored with other values, unless these may be replaced.
        """

        def insert(connection: Connection) -> int:
            changed = 0
            for row in rows:
                if (stored := stored_event(connection, row.event_id)) is not None and replace and not erase:
                    values = json.loads(stored.columns or "{}") | json.loads(row.columns or "{}")
                    row = item_row(row.item_id, values, row.timestamp)
                if stored is not None and stored.columns == row.columns:
                    continue
                if not replace and (stored is not None or row.item_id in known):
                    raise ItemExistsError(row.item_id)
                if stored is not None:
                    delete_event(connection, stored)
                    self._has_remains |= erase
                add_event(connection, row)
                changed += 1
            return changed

        return self._submit(insert)

    def drop_user(self, user_id: str, now: int, is_known: bool) -> "Future[int]":
        """Delete a user's events, whose number the future has, and record that there are none until the second `now`.

        For a forgotten user, and for an unknown one without events, nothing is recorded.
        """

        def delete(connection: Connection) -> int:
            deleted = delete_events(connection, user_id)
            if (deleted or is_known) and user_id not in self._excluded:
                drop_until(connection, user_id, now)
                self._note_change(connection, user_id)
            return deleted

        return self._submit(delete)

    def refresh(self) -> None:
        """Call the listener with commits of any service that it lacks; `fault` says why if they cannot be read.

        A listener that was not told of everything stays as it is until the journal can be read again.
        """
        with self._reading:
            if (began := monotonic()) < self._next_look:
                return
            try:
                place = self._read_place()
            except (OSError, self._database.Error, JournalError) as error:
                self._next_look = monotonic() + PAUSE * (monotonic() - began)
                self._seen, self._unread = None, f"{self._database.address} cannot be read: {in_a_line(error)}."
                logger.warning("%s Answers continue without new events.", self._unread)
                self._observe_fault("read")
                return
            if place != self._seen:
                self._seen, self._unread = place, self._tell()

    def _read_place(self) -> Place:
        """Read how much there is, by another connection if the server has ended the one before."""
        try:
            return read_place(self._reader)
        except self._database.Error:
            if not self._database.is_lost(self._reader):
                raise
        self._reader = self._database.connect()
        self._seen, self._is_behind = None, True  # a server that took over may lack events that were read
        return read_place(self._reader)

    def content(self) -> Content:
        with self._reading:
            return self._whole(erases=False)[1]

    def attach(self, work: Callable[[Content], None]) -> None:
        """Call a function with the journal's content; the listener is called with later commits alone."""
        with self._reading:
            place, content = self._whole()
            work(content)
            self._seen = self._place = place
            self._is_behind, self._unread = False, None

    def _whole(self, erases: bool = True) -> tuple[Place, Content]:
        self._read_place()
        with reading(self._database, self._reader) as connection:
            return read_place(connection), self._content(connection, erases)

    def try_out(self) -> "Future[None]":
        """Write without changing anything; `fault` is None afterwards if that succeeded."""

        def write(connection: Connection) -> None:
            drop_until(connection, "", 0)
            connection.run(DELETE_DROPPED, user_id="")

        return self._submit(write)

    def close(self) -> None:
        """Write what is waiting, and release the file."""
        self._waiting.put(None)
        self._thread.join()
        self._reader.close()
        self._connection.close()

    def _submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._waiting.put(_Job(work, future))
        return future

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs = [self._waiting.get()]
            while not self._waiting.empty():  # nobody else takes from it
                jobs.append(self._waiting.get())
            is_open = None not in jobs
            started = [job for job in jobs if job is not None and job.future.set_running_or_notify_cancel()]
            if started:
                self._write(started)

    def _write(self, jobs: Sequence[_Job]) -> None:
        """Commit jobs together, then call listeners; each of these steps has its own outcome."""
        try:
            outcomes = self._commit(jobs)
        except Exception as error:  # whatever it is, the thread goes on
            self._unstored = f"The journal {self._database.address} cannot be written: {in_a_line(error)}."
            logger.warning("%s", self._unstored)
            self._observe_fault("commit")
            kind = MaybeStoredError if isinstance(error, MaybeStoredError) else NotStoredError
            for job in jobs:
                job.future.set_exception(kind(self._unstored))
            return
        self._unstored, self._next_look = None, 0.0
        self._remove_remains()
        self.refresh()
        for job, (result, refusal) in zip(jobs, outcomes, strict=True):
            if refusal is not None:
                job.future.set_exception(refusal)
            elif self._unread is not None:
                job.future.set_exception(NotAppliedError(self._unread))
            else:
                job.future.set_result(result)

    def _commit(self, jobs: Sequence[_Job]) -> list[tuple[Any, Exception | None]]:
        """Run all jobs in one transaction, or raise; return the result of each, or its refusal."""
        outcomes, is_committing = list[tuple[Any, Exception | None]](), False
        self._require_in_place()
        connection = self._begin()
        try:
            self._excluded = self._forgotten()
            for job in jobs:
                connection.driver.execute("SAVEPOINT job")
                try:
                    outcomes.append((job.work(connection), None))
                except self._database.Error:
                    raise
                except Exception as error:  # the other jobs of the transaction have nothing to do with it
                    connection.driver.execute("ROLLBACK TO job")
                    outcomes.append((None, error))
                connection.driver.execute("RELEASE job")
            is_committing = True
            connection.driver.execute("COMMIT")
        except Exception as error:
            if is_committing and self._database.is_lost(connection):
                raise MaybeStoredError(in_a_line(error)) from error
            self._roll_back(connection)
            raise
        self._require_in_place()
        return outcomes

    def _begin(self) -> Connection:
        """Begin a transaction, by another connection if the server has ended the one before."""
        try:
            self._connection.driver.execute(self._database.begin_writing)
        except self._database.Error:
            if not self._database.is_lost(self._connection):
                self._roll_back(self._connection)
                raise
            self._connection = self._database.connect()
            self._connection.driver.execute(self._database.begin_writing)
        return self._connection

    def _roll_back(self, connection: Connection) -> None:
        with suppress(self._database.Error):  # where no transaction is left
            connection.driver.execute("ROLLBACK")

    def _remove_remains(self) -> None:
        """Remove what is left of deleted rows; if that fails, the next commit tries again."""
        if not self._has_remains:
            return
        try:
            self._has_remains = not self._database.remove_remains(self._connection)
        except self._database.Error as error:
            logger.warning("Deleted events of %s are still in its write-ahead log: %s.", self._database.address, error)
            self._observe_fault("checkpoint")

    def _note_change(self, connection: Connection, user_id: str) -> None:
        note_change(connection, user_id)
        self._has_remains = True

    def _content(self, connection: Connection, erases: bool = True) -> Content:
        """Read the whole content without events of forgotten users, which are erased as soon as it has been told."""
        forgotten = self._forgotten()
        content = Content(stored_events(connection), dict(connection.run(DROPPED).fetchall()))
        users = {*content.dropped, *(event.user_id for event in content.events)}
        if not (found := {user for user in users if user in forgotten}):
            return content._replace(forgotten=forgotten)

        def erase(connection: Connection) -> None:
            erase_users(connection, found)
            self._has_remains = True

        if erases:
            address = self._database.address
            logger.warning("%s holds events of %d forgotten users, which are erased.", address, len(found))
            self._submit(erase)
        events = [event for event in content.events if event.user_id not in found]
        return Content(events, {user: until for user, until in content.dropped.items() if user not in found}, forgotten)

    def _tell(self) -> str | None:
        """Call the listener with what is new, after a failure with the whole content; return why it failed, or None."""
        for is_whole in (self._is_behind, True):
            try:
                with reading(self._database, self._reader) as connection:
                    place = read_place(connection)
                    is_changed = is_whole or place.erasure != self._place.erasure
                    new = self._content(connection) if is_changed else _changes_since(connection, self._place)
                if is_changed or any(new):
                    self._listen(new)
                self._place, self._is_behind = place, False
                return None
            except Exception as error:  # whatever it is, it is stored; the thread goes on
                logger.exception("Answers do not read new events in %s.", self._database.address)
                self._observe_fault("listener")
                problem = error
        self._is_behind = True
        return f"Answers do not read what was added to {self._database.address} ({problem}). Start the service anew."


def _changes_since(connection: Connection, place: Place) -> Changes:
    users = dict[str, UserContent]()
    for (user_id,) in connection.run(CHANGED, after=place.change).fetchall():
        dropped = connection.run(DROPPED_UNTIL, user_id=user_id).fetchone()
        users[user_id] = UserContent(stored_events(connection, user_id=user_id), dropped and dropped[0])
    events = stored_events(connection, after=place.sequence)
    return Changes([event for event in events if event.user_id not in users], users)
