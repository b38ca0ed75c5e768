"""The journal: the events that the service has acknowledged, in one SQLite file.

An event is durable before its sender is answered: SQLite's write-ahead log is flushed to disk at every commit. One
thread writes; events that arrive during a commit are committed together.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

logger = logging.getLogger(__name__)

FILE, LOCK = "journal.sqlite", ".journal.lock"
COLUMNS = "event_id, user_id, item_id, rating, timestamp, request_id"
TABLES = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, rating REAL, timestamp INTEGER NOT NULL, request_id TEXT
);
CREATE INDEX IF NOT EXISTS events_of_users ON events (user_id);
CREATE TABLE IF NOT EXISTS dropped_users (user_id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL);
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
    """The whole content of a journal."""

    events: list[Event]  # in the order in which they were acknowledged
    dropped: dict[str, int]  # by user, the second until which all their events are dropped


class JournalError(RuntimeError):
    """Another service uses the folder, or its file is not a valid journal."""


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
    writes: bool


class Journal:
    """The journal in a folder, which no other service may use at the same time.

    Args:
        folder: created if it does not exist.
        listen: called by the writing thread with the events of each commit, before their senders are answered; after a
            commit that changed or dropped earlier events, with the journal's whole content.
        observe_fault: called with the step that failed: commit, checkpoint or listener.

    Attributes:
        fault: why the last write was not stored, or is not reflected by answers; None if all is well.

    Raises:
        JournalError: another service uses the folder, it is not writable, or its file is not a valid journal.
    """

    def __init__(
        self,
        folder: Path,
        listen: Callable[[list[Event] | Content], None],
        observe_fault: Callable[[str], None] = lambda step: None,
    ) -> None:
        require_usable(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / LOCK)
        except OSError as error:
            raise JournalError(
                f"The journal cannot be kept in {folder}: {error.strerror}. Name a folder that can be written in "
                "service.folder."
            ) from error
        self.file, self._listen, self._observe_fault = folder / FILE, listen, observe_fault
        self.fault: str | None = None
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        try:
            self._connection = _connected(self.file)
        except sqlite3.Error as error:
            self._lock.close()
            raise _unusable(self.file, error) from error
        self._new: list[Event] = []
        self._rewritten = self._has_remains = self._is_behind = False
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def add(self, events: Sequence[Event], replace: bool = False, without_time: Collection[str] = ()) -> "Future[int]":
        """Add events, all or none, each event_id once; the future has the number of events added.

        Stored events are not added again. The future raises `EventConflictError` if the event_id belongs to another
        event that is not to be replaced.

        Args:
            events: events to add.
            replace: whether an event replaces one of the same user with its event_id.
            without_time: ids of events sent without a time, which equal stored ones of any time.
        """

        def insert(connection: sqlite3.Connection) -> int:
            new, rewritten = [], False
            for event in events:
                if (stored := _event(connection, event.event_id)) is not None:
                    same = event if event.event_id not in without_time else event._replace(timestamp=stored.timestamp)
                    if same == stored:
                        continue
                    if not replace or stored.user_id != event.user_id:
                        raise EventConflictError(stored, event)
                    _deleted(connection, "event_id", event.event_id)
                    rewritten = True
                connection.execute(f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", event)
                new.append(event)
            self._new += new
            self._rewritten |= rewritten
            return len(new)

        return self._submit(insert)

    def drop_user(self, user_id: str, now: int, is_known: bool) -> "Future[int]":
        """Delete a user's events, and record that the user has none until `now`, in seconds.

        The future has the number of deleted events. For an unknown user without events, nothing is recorded.
        """

        def delete(connection: sqlite3.Connection) -> int:
            deleted = _deleted(connection, "user_id", user_id)
            if deleted or is_known:
                connection.execute("INSERT OR REPLACE INTO dropped_users VALUES (?, ?)", (user_id, now))
                self._rewritten = True
            return deleted

        return self._submit(delete)

    def between_commits(self, work: Callable[[Content], T]) -> "Future[T]":
        """Call a function with the journal's content, between two commits."""
        return self._submit(lambda connection: work(_content(connection)), writes=False)

    def try_out(self) -> "Future[None]":
        """Write without changing anything; `fault` is None afterwards if that succeeded."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO dropped_users VALUES ('', 0)")
            connection.execute("DELETE FROM dropped_users WHERE user_id = ''")

        return self._submit(write)

    def close(self) -> None:
        """Write what is waiting, and release the folder."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()
        self._lock.close()

    def _submit(self, work: Callable[[sqlite3.Connection], T], writes: bool = True) -> "Future[T]":
        future: Future[T] = Future()
        self._waiting.put(_Job(work, future, writes))
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
            self._write([job for job in started if job.writes])
            for job in started:
                if not job.writes:
                    self._read(job)

    def _read(self, job: _Job) -> None:
        try:
            job.future.set_result(job.work(self._connection))
        except Exception as error:  # whoever waits has to learn of it, whatever it is
            job.future.set_exception(error)

    def _write(self, jobs: Sequence[_Job]) -> None:
        """Commit jobs together, then call listeners; each of these steps has its own outcome."""
        if not jobs:
            return
        self._new, self._rewritten = [], False
        try:
            outcomes = self._commit(jobs)
        except sqlite3.Error as error:
            self.fault = f"The journal {self.file} cannot be written: {error}."
            logger.warning("%s", self.fault)
            self._observe_fault("commit")
            for job in jobs:
                job.future.set_exception(NotStoredError(self.fault))
            return
        self._has_remains |= self._rewritten
        self._remove_remains()
        self.fault = self._apply()
        for job, (result, refusal) in zip(jobs, outcomes, strict=True):
            if refusal is not None:
                job.future.set_exception(refusal)
            elif self.fault is not None:
                job.future.set_exception(NotAppliedError(self.fault))
            else:
                job.future.set_result(result)

    def _commit(self, jobs: Sequence[_Job]) -> list[tuple[Any, Exception | None]]:
        """Run all jobs in one transaction; return the result of each, or its refusal.

        Raises:
            sqlite3.Error: no job is stored.
        """
        connection, outcomes = self._connection, list[tuple[Any, Exception | None]]()
        try:
            connection.execute("BEGIN IMMEDIATE")
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
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
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

    def _apply(self) -> str | None:
        """Call the listener after a commit, after a failure with the whole content; return why it failed, or None."""
        is_changed = self._rewritten or self._is_behind
        for is_whole in (False, True):
            try:
                if is_changed or is_whole:
                    self._listen(_content(self._connection))
                elif self._new:
                    self._listen(self._new)
                self._is_behind = False
                return None
            except Exception as error:  # whatever it is, it is stored; the thread goes on
                logger.exception("Answers do not read what was added to %s.", self.file)
                self._observe_fault("listener")
                problem = error
        self._is_behind = True
        return f"Answers do not read what was added to {self.file} ({problem}). Start the service anew."


def require_usable(folder: Path) -> None:
    """Check, without writing anything, that a service may keep its journal in a folder.

    Raises:
        JournalError: another service uses the folder, or its file is not a valid journal.
    """
    file = folder / FILE
    if (folder / LOCK).exists():
        _lock(folder / LOCK, takes_over=False).close()
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


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(TABLES)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _unusable(file: Path, error: sqlite3.Error) -> JournalError:
    return JournalError(
        f"{file} cannot be used as a journal ({error}): an SQLite file that the service has made is expected, or none. "
        "Move it away, restore a copy of it, or name another folder in service.folder."
    )


def _content(connection: sqlite3.Connection) -> Content:
    events = connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY sequence")
    dropped = connection.execute("SELECT user_id, timestamp FROM dropped_users")
    return Content([Event(*row) for row in events], dict(dropped.fetchall()))


def _event(connection: sqlite3.Connection, event_id: str) -> Event | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM events WHERE event_id = ?", (event_id,)).fetchone()
    return None if row is None else Event(*row)


def _deleted(connection: sqlite3.Connection, column: str, value: str) -> int:
    return connection.execute(f"DELETE FROM events WHERE {column} = ?", (value,)).rowcount


def _lock(file: Path, takes_over: bool = True) -> Any:
    """Lock a folder until the file is closed; a process that takes the folder over writes its id into the file."""
    lock = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with lock:
            holder = lock.read()
        raise JournalError(
            f"Another service keeps its journal in {file.parent}: process {holder or 'unknown'}. Stop that one, or "
            "give this one a folder of its own, which service.folder names."
        ) from None
    if takes_over:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    return lock
