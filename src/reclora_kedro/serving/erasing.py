"""Erasure of users' events from the journal, also while services run."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from kedro_provenance.files.storage import is_remote


def erase_events(file: str, users: Iterable[Any]) -> int:
    """Delete all events of users for good and return their number, 0 if there is no journal.

    Args:
        file: the journal, a local SQLite file.

    Raises:
        ValueError: the file is locked, or no journal.
    """
    if is_remote(file) or not Path(file).exists():
        return 0
    try:
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")  # zeros in place of what is deleted
            connection.execute("BEGIN IMMEDIATE")
            ids = [(str(user),) for user in users]
            connection.executemany("DELETE FROM dropped_users WHERE user_id = ?", ids)
            events = connection.executemany("DELETE FROM events WHERE user_id = ?", ids).rowcount
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise ValueError(
            f"Events cannot be erased from the service's journal {file} ({error}): an SQLite file with the table "
            "`events` is expected, which no program locks for longer than 30 seconds."
        ) from error
    return events
