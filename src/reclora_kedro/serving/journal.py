"""The journal: the events that the service has acknowledged, in one SQLite file.

An event is durable before its sender is answered: SQLite's write-ahead log is flushed to disk at every commit. One
thread of each process writes; events that arrive during a commit are committed together. Several services may share a
journal: before it answers, each reads what the others have committed.

Whatever the file holds, no answer reads events of forgotten users: a commit reads who they are while it holds the lock
of the file, and drops their events; a reader leaves out those that it finds, as in a restored backup, and erases them.
"""

import logging
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple, TypeVar

from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers

logger = logging.getLogger(__name__)

FILE = "journal.sqlite"
COLUMNS = "event_id, user_id, item_id, rating, timestamp, request_id"
TABLES = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, rating REAL, timestamp INTEGER NOT NULL, request_id TEXT, checksum INTEGER
);
CREATE INDEX IF NOT EXISTS events_of_users ON events (user_id);
CREATE TABLE IF NOT EXISTS dropped_users (user_id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS changed_users (user_id TEXT PRIMARY KEY, change INTEGER NOT NULL UNIQUE);
"""
T = TypeVar("T")


class Event(NamedTuple):
    """An interaction sent to the service."""

    event_id: str
    user_id: str
    item_id: str
    rating: float | None  # 1 in logs without ratings; None: shown, not clicked
    timestamp: int  # seconds since the epoch
    request_id: str | None = None  # of the recommendation that led to it


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


class JournalError(RuntimeError):
    """The folder is not writable, or its file is not a valid journal."""


class NotStoredError(RuntimeError):
    """A write was not stored, for example because the disk is full."""


class NotAppliedError(RuntimeError):
    """A write is stored, but answers do not reflect it."""


class EventConflictError(ValueError):
    """An event `sent` has the event_id of another event that is `stored`."""

    def __init__(self, stored: Event, sent: Event) -> None:
        super().__init__(f"The journal has another event with the event_id {sent.event_id}.")
        self.stored, self.sent = stored, sent


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    future: "Future[Any]"


class _Place(NamedTuple):
    """How much of a journal has been read."""

    rewrite: int  # drawn anew whenever users are erased: SQLite's `user_version`
    change: int  # number of the last user's change
    sequence: int  # number of the last event


class Journal:
    """The journal in a folder, which other services may use at the same time.

    Args:
        folder: created if it does not exist.
        listen: called with the changes of each commit, before their senders are answered, and by `refresh` with those
            of other services; after users were erased, with the journal's whole content.
        observe_fault: called with the step that failed: commit, checkpoint or listener.
        forgotten: returns who is forgotten now; called at every commit, and before the content is read. If it fails,
            nothing is stored.

    Raises:
        JournalError: the folder is not writable, or its file is not a valid journal.
    """

    def __init__(
        self,
        folder: Path,
        listen: Callable[[Changes | Content], None],
        observe_fault: Callable[[str], None] = lambda step: None,
        forgotten: Callable[[], ForgottenUsers] = lambda: NOBODY,
    ) -> None:
        require_usable(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error.strerror) from error
        self.file, self._listen, self._observe_fault = folder / FILE, listen, observe_fault
        self._forgotten, self._excluded = forgotten, NOBODY
        try:
            self._connection, self._reader = _connected(self.file), _connected(self.file)
            _add_checksums(self._connection)
            self._commits, self._place = self._count_commits(), _place(self._reader)
        except sqlite3.Error as error:
            raise _unwritable(folder, error) from error
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._reading, self._has_remains, self._is_behind = Lock(), False, False
        self._unstored: str | None = None
        self._unread: str | None = None
        self._identity = self._identify()
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Reason why a write is not stored or not reflected by answers; None if all is well."""
        return self._unstored or self._unread or self._replacement()

    def _identify(self) -> tuple[tuple[int, int] | None, ...]:
        """Return what the file and its write-ahead log are, whatever their names; None for one that is missing."""
        files = (self.file, self.file.with_name(f"{FILE}-wal"))
        states = (file.stat() if file.exists() else None for file in files)
        return tuple(state and (state.st_dev, state.st_ino) for state in states)

    def _replacement(self) -> str | None:
        """Return what is wrong if the names no longer lead to the files that are written; None if they do."""
        if self._identify() == self._identity:
            return None
        return (
            f"The journal {self.file} or its write-ahead log was removed or replaced while the service ran, so that "
            "what it writes is lost. Put the right one in place, and start the service anew."
        )

    def _require_in_place(self) -> None:
        if reason := self._replacement():
            raise JournalError(reason)

    def add(
        self, events: Sequence[Event], replace: bool = False, without_time: Collection[str] = ()
    ) -> "Future[Added]":
        """Add events, all or none, each event_id once.

        Events of forgotten users are dropped, and stored events are not added again. The future raises
        `EventConflictError` if the event_id belongs to another event that is not to be replaced.

        Args:
            replace: whether an event replaces one of the same user with its event_id.
            without_time: ids of events sent without a time, which equal stored ones of any time.
        """

        def insert(connection: sqlite3.Connection) -> Added:
            added, kept = 0, [event for event in events if event.user_id not in self._excluded]
            for event in kept:
                if (stored := _event(connection, event.event_id)) is not None:
                    same = event if event.event_id not in without_time else event._replace(timestamp=stored.timestamp)
                    if same == stored:
                        continue
                    if not replace or stored.user_id != event.user_id:
                        raise EventConflictError(stored, event)
                    _deleted(connection, "event_id", event.event_id)
                    self._note_change(connection, event.user_id)
                connection.execute(
                    f"INSERT INTO events ({COLUMNS}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)", (*event, checksum(event))
                )
                added += 1
            return Added(added, len(events) - len(kept))

        return self._submit(insert)

    def drop_user(self, user_id: str, now: int, is_known: bool) -> "Future[int]":
        """Delete a user's events, and record that the user has none until `now`, in seconds.

        The future has the number of deleted events. For a forgotten user, and for an unknown one without events,
        nothing is recorded.
        """

        def delete(connection: sqlite3.Connection) -> int:
            deleted = _deleted(connection, "user_id", user_id)
            if (deleted or is_known) and user_id not in self._excluded:
                connection.execute("INSERT OR REPLACE INTO dropped_users VALUES (?, ?)", (user_id, now))
                self._note_change(connection, user_id)
            return deleted

        return self._submit(delete)

    def refresh(self) -> None:
        """Call the listener with commits of any service that it lacks; raise sqlite3.Error for an unreadable file."""
        with self._reading:
            if (commits := self._count_commits()) != self._commits:
                self._commits, self._unread = commits, self._tell()

    def content(self) -> Content:
        with self._reading, _unchanging(self._reader) as connection:
            return self._content(connection, erases=False)

    def attach(self, work: Callable[[Content], None]) -> None:
        """Call a function with the journal's content; the listener is called with later commits alone."""
        with self._reading:
            with _unchanging(self._reader) as connection:
                place, content = _place(connection), self._content(connection)
            work(content)
            self._place, self._is_behind, self._unread = place, False, None

    def try_out(self) -> "Future[None]":
        """Write without changing anything; `fault` is None afterwards if that succeeded."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO dropped_users VALUES ('', 0)")
            connection.execute("DELETE FROM dropped_users WHERE user_id = ''")

        return self._submit(write)

    def close(self) -> None:
        """Write what is waiting, and release the file."""
        self._waiting.put(None)
        self._thread.join()
        self._reader.close()
        self._connection.close()

    def _submit(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._waiting.put(_Job(work, future))
        return future

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs = [self._waiting.get()]
            while True:
                try:
                    jobs.append(self._waiting.get_nowait())
                except Empty:
                    break
            is_open = None not in jobs
            started = [job for job in jobs if job is not None and job.future.set_running_or_notify_cancel()]
            if started:
                self._write(started)

    def _write(self, jobs: Sequence[_Job]) -> None:
        """Commit jobs together, then call listeners; each of these steps has its own outcome."""
        try:
            outcomes = self._commit(jobs)
        except Exception as error:  # whatever it is, nothing is stored; the thread goes on
            self._unstored = f"The journal {self.file} cannot be written: {error}."
            logger.warning("%s", self._unstored)
            self._observe_fault("commit")
            for job in jobs:
                job.future.set_exception(NotStoredError(self._unstored))
            return
        self._unstored = None
        self._remove_remains()
        try:
            self.refresh()
        except sqlite3.Error as error:
            self._unread = f"{self.file} cannot be read: {error}."
        for job, (result, refusal) in zip(jobs, outcomes, strict=True):
            if refusal is not None:
                job.future.set_exception(refusal)
            elif self._unread is not None:
                job.future.set_exception(NotAppliedError(self._unread))
            else:
                job.future.set_result(result)

    def _commit(self, jobs: Sequence[_Job]) -> list[tuple[Any, Exception | None]]:
        """Run all jobs in one transaction, or raise; return the result of each, or its refusal."""
        connection, outcomes = self._connection, list[tuple[Any, Exception | None]]()
        self._require_in_place()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._excluded = self._forgotten()
            for job in jobs:
                connection.execute("SAVEPOINT job")
                try:
                    outcomes.append((job.work(connection), None))
                except sqlite3.Error:
                    raise
                except Exception as error:  # the other jobs of the transaction have nothing to do with it
                    connection.execute("ROLLBACK TO job")
                    outcomes.append((None, error))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except Exception:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._require_in_place()
        return outcomes

    def _remove_remains(self) -> None:
        """Remove deleted rows from both files; if that fails, the next commit tries again."""
        if not self._has_remains:
            return
        try:
            [(is_busy, *_)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._has_remains = bool(is_busy)
        except sqlite3.Error as error:
            logger.warning("What was deleted from %s is still in its write-ahead log: %s.", self.file, error)
            self._observe_fault("checkpoint")

    def _note_change(self, connection: sqlite3.Connection, user_id: str) -> None:
        """Make all services read a user's events again after this transaction."""
        connection.execute(
            "INSERT OR REPLACE INTO changed_users SELECT ?, coalesce(max(change), 0) + 1 FROM changed_users", (user_id,)
        )
        self._has_remains = True

    def _content(self, connection: sqlite3.Connection, erases: bool = True) -> Content:
        """Read the whole content without events of forgotten users, which are erased as soon as it has been told."""
        forgotten = self._forgotten()
        content = Content(stored_events(connection), dict(connection.execute("SELECT * FROM dropped_users").fetchall()))
        users = {*content.dropped, *(event.user_id for event in content.events)}
        if not (found := {user for user in users if user in forgotten}):
            return content._replace(forgotten=forgotten)

        def erase(connection: sqlite3.Connection) -> None:
            erase_users(connection, found)
            self._has_remains = True

        if erases:
            logger.warning("%s holds events of %d forgotten users, which are erased.", self.file, len(found))
            self._submit(erase)
        events = [event for event in content.events if event.user_id not in found]
        return Content(events, {user: until for user, until in content.dropped.items() if user not in found}, forgotten)

    def _count_commits(self) -> int:
        """Return a number that changes with each commit of another connection."""
        [commits] = self._reader.execute("PRAGMA data_version").fetchone()
        return int(commits)

    def _tell(self) -> str | None:
        """Call the listener with what is new, after a failure with the whole content; return why it failed, or None."""
        for is_whole in (self._is_behind, True):
            try:
                with _unchanging(self._reader) as connection:
                    place = _place(connection)
                    is_changed = is_whole or place.rewrite != self._place.rewrite
                    new = self._content(connection) if is_changed else _changes_since(connection, self._place)
                if is_changed or any(new):
                    self._listen(new)
                self._place, self._is_behind = place, False
                return None
            except Exception as error:  # whatever it is, it is stored; the thread goes on
                logger.exception("Answers do not read what was added to %s.", self.file)
                self._observe_fault("listener")
                problem = error
        self._is_behind = True
        return f"Answers do not read what was added to {self.file} ({problem}). Start the service anew."


def erase_users(connection: sqlite3.Connection, users: Iterable[str]) -> int:
    """Delete all that a journal has of users, and make all services read it again; return the number of events."""
    ids = [(user,) for user in users]
    connection.executemany("DELETE FROM dropped_users WHERE user_id = ?", ids)
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'changed_users'").fetchall():
        connection.executemany("DELETE FROM changed_users WHERE user_id = ?", ids)
    connection.execute(f"PRAGMA user_version = {secrets.randbits(31)}")  # a restored backup has another one
    return connection.executemany("DELETE FROM events WHERE user_id = ?", ids).rowcount


def require_usable(folder: Path) -> None:
    """Raise JournalError, without writing anything, if the file in a folder is no valid journal."""
    file = folder / FILE
    if not file.exists() or not file.stat().st_size:
        return
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            [[verdict]] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict.replace("\n", " "))
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'events'").fetchall():
                connection.execute(f"SELECT {COLUMNS} FROM events LIMIT 1").fetchall()
    except sqlite3.Error as error:
        raise _unusable(file, error) from error


def require_events(folder: Path) -> None:
    """Raise JournalError if the file in a folder has lost all that it held; log a warning if there is no file.

    The service makes a file with its tables. One without them is what is left of another.
    """
    file = folder / FILE
    if not file.exists():
        logger.warning("There is no journal in %s, though the model has read events of one: a new one begins.", folder)
        return
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'events'").fetchall():
            raise JournalError(
                f"{file} is empty, but the model that is served has read events of a journal: restore a backup of it, "
                "or move the file away to begin a new one."
            )


def checksum(event: Event) -> int:
    """Return the checksum that is stored beside an event.

    Examples:
        >>> checksum(Event("e1", "7", "50", 4, 9)) == checksum(Event("e1", "7", "50", 4.0, 9))
        True
    """
    rating = None if event.rating is None else float(event.rating)
    return zlib.crc32(repr((*event[:3], rating, *event[4:])).encode())


def stored_events(connection: sqlite3.Connection, after: int = 0, user_id: str | None = None) -> list[Event]:
    """Return the events of a journal behind a place, in the order in which they were acknowledged.

    Args:
        user_id: whose events are read; None for all.

    Raises:
        JournalError: an event is not as it was written. Events of earlier releases have no checksum until a service
            takes the journal over.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('events')")}
    sums = "checksum" if "checksum" in names else "NULL"
    of_user, values = ("", (after,)) if user_id is None else ("AND user_id = ?", (after, user_id))
    rows = connection.execute(
        f"SELECT sequence, {sums}, {COLUMNS} FROM events WHERE sequence > ? {of_user} ORDER BY sequence", values
    )
    events = []
    for sequence, stored, *columns in rows:
        events.append(event := Event(*columns))
        if stored is not None and stored != checksum(event):
            raise JournalError(
                f"The journal is damaged: the event with the sequence {sequence} is not as it was written, by its "
                f"checksum. Restore a backup, or drop that event: DELETE FROM events WHERE sequence = {sequence}."
            )
    return events


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(TABLES)
        if "checksum" not in {row[1] for row in connection.execute("PRAGMA table_info(events)")}:
            connection.execute("ALTER TABLE events ADD COLUMN checksum INTEGER")  # of an earlier release
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _add_checksums(connection: sqlite3.Connection) -> None:
    """Give the events of an earlier release their checksums, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute(f"SELECT sequence, {COLUMNS} FROM events WHERE checksum IS NULL").fetchall()
        sums = [(checksum(Event(*columns)), sequence) for sequence, *columns in rows]
        connection.executemany("UPDATE events SET checksum = ? WHERE sequence = ?", sums)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _unusable(file: Path, error: sqlite3.Error) -> JournalError:
    return JournalError(
        f"{file} cannot be used as a journal ({error}): an SQLite file that the service has made is expected, or none. "
        "Move it away, restore a copy of it, or name another folder in service.folder."
    )


def _unwritable(folder: Path, error: object) -> JournalError:
    return JournalError(
        f"The journal cannot be kept in {folder}: {error}. Name a folder that can be written in service.folder."
    )


@contextmanager
def _unchanging(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Yield a connection that reads one state of the file, whatever others commit."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.execute("COMMIT")


def _place(connection: sqlite3.Connection) -> _Place:
    [[rewrite]] = connection.execute("PRAGMA user_version").fetchall()
    [[change]] = connection.execute("SELECT coalesce(max(change), 0) FROM changed_users").fetchall()
    [[sequence]] = connection.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchall()
    return _Place(rewrite, change, sequence)


def _changes_since(connection: sqlite3.Connection, place: _Place) -> Changes:
    users = dict[str, UserContent]()
    changed = connection.execute("SELECT user_id FROM changed_users WHERE change > ?", (place.change,)).fetchall()
    for (user_id,) in changed:
        [until] = connection.execute(
            "SELECT max(timestamp) FROM dropped_users WHERE user_id = ?", (user_id,)
        ).fetchone()
        users[user_id] = UserContent(stored_events(connection, user_id=user_id), until)
    events = stored_events(connection, after=place.sequence)
    return Changes([event for event in events if event.user_id not in users], users)


def _event(connection: sqlite3.Connection, event_id: str) -> Event | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM events WHERE event_id = ?", (event_id,)).fetchone()
    return None if row is None else Event(*row)


def _deleted(connection: sqlite3.Connection, column: str, value: str) -> int:
    return connection.execute(f"DELETE FROM events WHERE {column} = ?", (value,)).rowcount
