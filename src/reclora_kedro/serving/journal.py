"""The journal: the events that the service has acknowledged, in one SQLite file.

An event is durable before its sender is answered: SQLite's write-ahead log is synchronised with the disk at every
commit. One thread writes; what waits while it commits is committed together.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
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
    """An interaction as the service was told of it."""

    event_id: str
    user_id: str
    item_id: str
    rating: float | None  # 1 in logs without ratings; None: shown, not clicked
    timestamp: int  # seconds since the epoch
    request_id: str | None = None  # of the recommendation that it came of


class Content(NamedTuple):
    """All that a journal holds."""

    events: list[Event]  # in the order in which they were acknowledged
    dropped: dict[str, int]  # by user, the second until which all their events are dropped


class JournalError(RuntimeError):
    """Another service has the folder, or the file in it is no journal."""


class Journal:
    """The journal in a folder, which no other service may use meanwhile.

    Args:
        folder: made if it is not there.
        listen: called with the events of each commit before their senders are answered, by the thread that writes; with
            the journal's whole content where a commit changed or dropped earlier events.

    Raises:
        JournalError: another service uses the folder, or its file is no journal.
    """

    def __init__(self, folder: Path, listen: Callable[[list[Event] | Content], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self._listen = folder / FILE, listen
        self._lock = _lock(folder / LOCK)
        self._waiting: SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future] | None] = SimpleQueue()
        self._connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(TABLES)
        except sqlite3.Error as error:
            self._connection.close()
            self._lock.close()
            raise JournalError(
                f"{self.file} cannot be used as a journal ({error}): an SQLite file that the service has made is "
                "expected, or none. Move it away, or name another folder in service.folder."
            ) from error
        self._new: list[Event] = []
        self._rewritten = False
        self._thread = Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def add(self, events: Sequence[Event], replace: bool = False) -> "Future[int]":
        """Add events, all or none, each event_id once; the future has how many were added.

        Args:
            events: whose event_id may be known: the earlier event stays, or is replaced.
            replace: whether it is replaced.
        """

        def insert(connection: sqlite3.Connection) -> int:
            added = 0
            for event in events:
                if replace:
                    self._rewritten |= _deleted(connection, "event_id", event.event_id) > 0
                sql = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
                if connection.execute(sql, event).rowcount:
                    self._new.append(event)
                    added += 1
            return added

        return self._submit(insert)

    def drop_user(self, user_id: str, now: int, is_known: bool) -> "Future[int]":
        """Delete a user's events, and remember that the user has none until now, in seconds; how many were deleted.

        Of a user who is not known, and has no events here, nothing is remembered.
        """

        def delete(connection: sqlite3.Connection) -> int:
            deleted = _deleted(connection, "user_id", user_id)
            if deleted or is_known:
                connection.execute("INSERT OR REPLACE INTO dropped_users VALUES (?, ?)", (user_id, now))
                self._rewritten = True
            return deleted

        return self._submit(delete)

    def between_commits(self, work: Callable[[Content], T]) -> "Future[T]":
        """Call a function with all that the journal holds, while nothing is added."""
        return self._submit(lambda connection: work(_content(connection)))

    def close(self) -> None:
        """Write what waits, and let go of the folder."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()
        self._lock.close()

    def _submit(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._waiting.put((work, future))
        return future

    def _write(self) -> None:
        open_, connection = True, self._connection
        while open_:
            jobs = [self._waiting.get()]
            while True:
                try:
                    jobs.append(self._waiting.get_nowait())
                except Empty:
                    break
            open_ = None not in jobs
            work = [job for job in jobs if job is not None and job[1].set_running_or_notify_cancel()]
            self._new, self._rewritten = [], False
            try:
                connection.execute("BEGIN IMMEDIATE")
                results = [do(connection) for do, _ in work]
                connection.execute("COMMIT")
                if self._rewritten:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was deleted is gone from both files
                    self._listen(_content(connection))
                elif self._new:
                    self._listen(self._new)
            except Exception as error:  # whoever waits has to learn of it, whatever it is; the thread goes on
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                logger.warning("The journal %s could not be written: %s", self.file, error)
                for _, future in work:
                    future.set_exception(error)
                continue
            for (_, future), result in zip(work, results, strict=True):
                future.set_result(result)


def _content(connection: sqlite3.Connection) -> Content:
    events = connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY sequence")
    dropped = connection.execute("SELECT user_id, timestamp FROM dropped_users")
    return Content([Event(*row) for row in events], dict(dropped.fetchall()))


def _deleted(connection: sqlite3.Connection, column: str, value: str) -> int:
    return connection.execute(f"DELETE FROM events WHERE {column} = ?", (value,)).rowcount


def _lock(file: Path) -> Any:
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
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
