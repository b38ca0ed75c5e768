"""Erasure of users' events from the journal, also while services run."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from kedro_provenance.files.storage import is_remote
from reclora_kedro.serving.journal import erase_users


def erase_events(file: str, users: Iterable[Any]) -> int:
    """Delete all events of users for good and return their number, 0 if there is no journal; services notice at once.

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
            events = erase_users(connection, map(str, users))
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise ValueError(
            f"Events cannot be erased from the service's journal {file} ({error}): an SQLite file with the table "
            "`events` is expected, which no program locks for longer than 30 seconds."
        ) from error
    return events
