"""A load-only dataset of the service's journal."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from kedro.io import DatasetError

from kedro_provenance.files.storage import is_remote
from reclora_kedro.datasets.load_only import LoadOnlyDataset
from reclora_kedro.serving.journal import JournalError, erase_users, stored_events

SCHEMA = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


class JournalDataset(LoadOnlyDataset):
    """Loads the events that the service has acknowledged, in that order, also while it runs; none if it has never run.

    Columns are user_id, item_id (text), rating (null: an impression without a click) and timestamp (seconds since the
    epoch). Events are identified by user, item and second, so that an update may read the whole journal again.

    Args:
        file: a local SQLite file with the table `events`.
    """

    def __init__(self, *, file: str, metadata: dict[str, Any] | None = None) -> None:
        self._file = file
        self.metadata = metadata

    def load(self) -> pl.DataFrame:
        """Load the events, or raise DatasetError if the file is no journal."""
        if is_remote(self._file) or not Path(self._file).exists():
            return pl.DataFrame(schema=SCHEMA)
        with self._connected(f"{Path(self._file).absolute().as_uri()}?mode=ro", uri=True) as connection:
            events = stored_events(connection)
        return pl.DataFrame({name: [getattr(event, name) for event in events] for name in SCHEMA}, SCHEMA)

    @contextmanager
    def _connected(self, database: str, **settings: Any) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(database, **settings)) as connection:
                yield connection
        except JournalError as error:
            raise DatasetError(f"{self._file}: {error}") from error
        except sqlite3.Error as error:
            raise DatasetError(
                f"{self._file} cannot be used as the service's journal ({error}): an SQLite file with the table "
                "`events` is expected. Name its folder in service.folder, or move the file away."
            ) from error

    def _describe(self) -> dict[str, Any]:
        return {"file": self._file}

    def erase(self, users: Iterable[Any]) -> int:
        """Delete all events of users for good and return their number; services take notice at once.

        Raises:
            DatasetError: the file is locked, or no journal.
        """
        if is_remote(self._file) or not Path(self._file).exists():
            return 0
        with self._connected(self._file, timeout=30, isolation_level=None) as connection:
            connection.execute("PRAGMA secure_delete = ON")  # zeros in place of what is deleted
            connection.execute("BEGIN IMMEDIATE")
            events = erase_users(connection, map(str, users))
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return events
