"""Erasure of users' events from the journal, also while services run."""

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from kedro_provenance.files.storage import is_remote
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.serving.journal_databases import journal_database
from reclora_kedro.serving.journal_tables import JournalError, erase_users


def erase_events(address: str, users: Iterable[Any]) -> int:
    """Delete all events of users for good and return their number, 0 if there is no journal; services notice at once.

    Args:
        address: the journal, as in `service.journal`.

    Raises:
        ValueError: the journal is locked, cannot be reached, or is none.
    """
    if is_remote(address):
        return 0
    database = journal_database(address)
    try:
        if (existing := database.connect_to_read()) is None:
            return 0
        existing.close()
        with closing(database.connect()) as connection:
            database.begin_writing(connection)
            events = erase_users(connection, filter(None, map(id_text, users)))
            connection.driver.execute("COMMIT")
            database.remove_remains(connection)
    except (JournalError, database.Error) as error:
        raise ValueError(f"Events cannot be erased: {database.failure(error)}") from error
    return events
