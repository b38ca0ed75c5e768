"""A load-only dataset of the service's journal."""

import logging
from contextlib import closing
from typing import Any, ClassVar

import polars as pl
from kedro.io import DatasetError

from kedro_provenance.files.storage import is_remote
from reclora_kedro.datasets.load_only import LoadOnlyDataset
from reclora_kedro.datasets.newest_versions import ForgottenUsersDataset
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.serving.journal_databases import erase_events, journal_database, reading
from reclora_kedro.serving.journal_tables import JournalError, stored_events

logger = logging.getLogger(__name__)

SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "columns": pl.String,
}


class JournalDataset(LoadOnlyDataset):
    """Loads the events and items that the service has acknowledged, also while it runs; none if it has never run.

    Events of forgotten users, as a restored backup has them, are left out and erased from the journal, as by the
    service.

    Columns are user_id, item_id (text), rating (null: an impression without a click), timestamp (seconds since the
    epoch) and columns (declared ones as JSON, see `EventSchema.parsed`). Events are identified by user, item and
    second, so that an update may read the whole journal again. An item has no user, and its values are the columns.

    `journal` is a local SQLite file, or a database of PostgreSQL, as in `service.journal`; `path` and `credentials` are
    of the entry `forgotten_users`, None if nobody is.
    """

    RESOURCES: ClassVar = ("path",)  # as in `ForgottenUsersDataset`

    def __init__(
        self,
        *,
        journal: str,
        path: str | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.journal = journal
        self._forgotten = None if path is None else ForgottenUsersDataset(path=path, credentials=credentials)
        self.metadata = metadata

    def load(self) -> pl.DataFrame:
        """Load the events, or raise DatasetError if they cannot be read."""
        if is_remote(self.journal):
            return pl.DataFrame(schema=SCHEMA)
        try:
            database = journal_database(self.journal)
        except JournalError as error:
            raise DatasetError(str(error)) from error
        try:
            if (connection := database.connect_to_read()) is None:
                return pl.DataFrame(schema=SCHEMA)
            with closing(connection), reading(database, connection):
                events = stored_events(connection)
        except JournalError as error:
            raise DatasetError(f"{self.journal}: {error}") from error
        except database.Error as error:
            raise DatasetError(database.failure(error)) from error
        if self._forgotten is not None:
            forgotten = ForgottenUsers.from_table(self._forgotten.load())
            if found := {event.user_id for event in events if event.user_id in forgotten}:
                events = [event for event in events if event.user_id not in found]
                self._erase(found)
        return pl.DataFrame({name: [getattr(event, name) for event in events] for name in SCHEMA}, SCHEMA)

    def _erase(self, users: set[str]) -> None:
        logger.warning("%s holds events of %d forgotten users, which are erased.", self.journal, len(users))
        try:
            erase_events(self.journal, users)
        except ValueError as error:  # no reader reads them, and the next one tries again
            logger.warning("%s", error)

    def _describe(self) -> dict[str, Any]:
        return {"journal": self.journal}
