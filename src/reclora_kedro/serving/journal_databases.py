"""Databases that keep a journal: an SQLite file for one machine, or PostgreSQL for several."""

import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from kedro_provenance.files.storage import is_remote
from reclora_kedro.extras import missing_extra
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.serving.journal_tables import (
    READ_TOTALS,
    TABLES,
    Connection,
    JournalError,
    add_checksums,
    erase_users,
    stored_event,
)

logger = logging.getLogger(__name__)

PATIENCE = 30  # seconds that a writer waits for the lock of others
LOCK = 7_363_025_221_146_993_011  # of journals, among the advisory locks of a PostgreSQL database
CONNECTING = {  # unless the address says otherwise; a server that has gone without a word is noticed within 10 seconds
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 5,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",  # of several hosts, the one that is no standby
    "application_name": "reclora",
    "client_encoding": "utf8",
}
SESSION = (  # an acknowledged event is on the server's disk, and who holds the lock and is gone loses it
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    f"SET lock_timeout = '{PATIENCE}s'",
    f"SET idle_in_transaction_session_timeout = '{PATIENCE}s'",
)
HAS_COLUMNS = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('events') AND attname = 'columns'"


class JournalDatabase(ABC):
    """Where a journal is kept."""

    address: str  # a file, or a URL without a password
    Error: type[Exception]  # of the driver
    begin_reading: str  # the statement that begins a transaction which reads one state, whatever others commit
    begin_writing: str  # the one that begins a transaction with the lock of the journal, which one writer of all has
    advice: str  # what to do if the journal cannot be used

    @abstractmethod
    def connect(self) -> Connection:
        """Return a connection to the journal, which is made if there is none; raise `Error` or JournalError."""

    @abstractmethod
    def connect_to_read(self) -> Connection | None:
        """Return a connection to a journal that is read alone; None if there is none."""

    def check(self, connection: Connection) -> None:
        """Raise `Error` if what a connection reads is no journal."""
        if connection.has_table("events"):
            stored_event(connection, "")

    def is_lost(self, connection: Connection) -> bool:
        """Whether a connection that has failed is of no more use."""
        return False

    def remove_remains(self, connection: Connection) -> bool:
        """Remove what is left of deleted rows, unless a server does; return whether that is done."""
        return True

    def identify(self) -> Any:
        """Return what is behind the address; another value later means that the journal was replaced."""
        return None

    def require_usable(self) -> None:
        """Raise JournalError, without writing anything, if the journal cannot be read, or is none."""
        try:
            if (connection := self.connect_to_read()) is not None:
                with closing(connection):
                    self.check(connection)
        except self.Error as error:
            raise JournalError(self.failure(error)) from error

    def require_events(self) -> None:
        """Raise JournalError if a journal has lost all that it held; log a warning if there is none.

        A service makes a journal with its tables. One without them is what is left of another.
        """
        if (connection := self.connect_to_read()) is None:
            text = "There is no journal in %s, although the model has read events of one. A new journal is created."
            logger.warning(text, self.address)
            return
        with closing(connection):
            if not connection.has_table("events"):
                raise JournalError(
                    f"{self.address} is empty, but the current model has read events of a journal: restore a backup "
                    "of it, or move the file away to create a new one."
                )

    def failure(self, error: object) -> str:
        """Say that the journal cannot be used because of an error, and what to do."""
        return f"{self.address} cannot be used as a journal ({in_a_line(error)}): {self.advice}"


def in_a_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")


def journal_database(address: str) -> JournalDatabase:
    """Return the database of a local file or of postgresql://user@host/database; JournalError for another address."""
    if address.startswith(("postgresql://", "postgres://")):
        return PostgresDatabase(address)
    if is_remote(address) or "://" in address:
        raise JournalError(
            f"service.journal is at {address.partition('://')[0]}://, but the journal needs a local file, whose writes "
            "are durable, or a database postgresql://user@host/database: name one."
        )
    return SqliteFile(address)


@contextmanager
def reading(database: JournalDatabase, connection: Connection) -> Iterator[Connection]:
    """Yield a connection that reads one state of the journal, whatever others commit."""
    connection.driver.execute(database.begin_reading)
    try:
        yield connection
    finally:
        connection.driver.execute("COMMIT")


@contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


class SqliteFile(JournalDatabase):
    """A local file: its write-ahead log is flushed to disk at every commit."""

    Error = sqlite3.Error
    begin_reading, begin_writing = "BEGIN", "BEGIN IMMEDIATE"
    advice = (
        "an SQLite file that the service has made is expected, or none. Move it away, restore a copy of it, or name "
        "another file in service.journal."
    )

    def __init__(self, address: str) -> None:
        self.address, self._file = address, Path(address)

    def connect(self) -> Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        driver = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        with _closed_on_failure(Connection(driver, is_file=True)) as connection:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                driver.execute(f"PRAGMA {pragma}")
            driver.execute(self.begin_writing)
            connection.make_tables()
            columns = {row[1] for row in driver.execute("PRAGMA table_info(events)")}
            for name, kind in (("checksum", "INTEGER"), ("columns", "TEXT")):  # which earlier releases lack
                if name not in columns:
                    driver.execute(f"ALTER TABLE events ADD COLUMN {name} {kind}")
            if "checksum" not in columns:
                add_checksums(connection)
            connection.make_totals()
            driver.execute("COMMIT")
        return connection

    def connect_to_read(self) -> Connection | None:
        if not self._file.exists():
            return None
        database = f"{self._file.absolute().as_uri()}?mode=ro"
        return Connection(sqlite3.connect(database, uri=True, timeout=PATIENCE), is_file=True)

    def check(self, connection: Connection) -> None:
        [[verdict]] = connection.driver.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        super().check(connection)

    def remove_remains(self, connection: Connection) -> bool:
        [(is_busy, *_)] = connection.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_busy

    def identify(self) -> Any:
        """Return what the file and its write-ahead log are, whatever their names; None for one that is missing."""
        files = (self._file, self._file.with_name(f"{self._file.name}-wal"))
        states = (file.stat() if file.exists() else None for file in files)
        return tuple(state and (state.st_dev, state.st_ino) for state in states)


class PostgresDatabase(JournalDatabase):
    """A schema of a PostgreSQL database: an acknowledged event is flushed to the server's disk."""

    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    begin_writing = f"BEGIN; SELECT pg_advisory_xact_lock({LOCK})"
    advice = "start the server, or correct service.journal."

    def __init__(self, address: str) -> None:
        if text := missing_extra("postgres", "service.journal, a database of PostgreSQL,"):
            raise JournalError(f"{text}, or name a local file.")
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        try:
            given = conninfo_to_dict(address)
        except psycopg.Error:  # whose text may hold the address with a password
            raise JournalError(
                "service.journal is not an address of PostgreSQL: expected postgresql://user@host:5432/database."
            ) from None
        if not given.keys().isdisjoint(("password", "sslpassword")):
            raise JournalError(
                "service.journal holds a password, which records and messages would contain: remove it from the "
                "address, and set it in the environment variable PGPASSWORD or in the file ~/.pgpass."
            )
        self.address, self.Error = address, psycopg.Error
        self._options: Any = {name: value for name, value in CONNECTING.items() if name not in given}

    def connect(self) -> Connection:
        with _closed_on_failure(self._connected()) as connection:
            is_current = self._has_tables(connection) and connection.driver.execute(HAS_COLUMNS).fetchone() is not None
            if not (is_current and connection.has_table("totals") and connection.run(READ_TOTALS).fetchone()):
                connection.driver.execute(self.begin_writing)
                connection.make_tables()
                connection.driver.execute("ALTER TABLE events ADD COLUMN IF NOT EXISTS columns TEXT")
                connection.make_totals()
                connection.driver.execute("COMMIT")
        return connection

    def connect_to_read(self) -> Connection | None:
        connection = self._connected()
        if self._has_tables(connection):
            return connection
        connection.close()
        return None

    def _connected(self) -> Connection:
        import psycopg

        driver = psycopg.connect(self.address, autocommit=True, **self._options)
        with _closed_on_failure(Connection(driver, is_file=False)) as connection:
            if (encoding := driver.info.parameter_status("server_encoding")) != "UTF8":
                raise JournalError(
                    f"{self.address} has the encoding {encoding}, which cannot store all ids: name a database "
                    "with the encoding UTF8."
                )
            for statement in SESSION:
                driver.execute(statement)
        return connection

    def _has_tables(self, connection: Connection) -> bool:
        """Return whether the journal's tables exist; raise JournalError if another program has one of that name."""
        tables = TABLES.keys() - {"totals"}  # which earlier releases lack
        existing = sorted(name for name in tables if connection.has_table(name))
        if existing and len(existing) < len(tables):
            raise JournalError(
                f"{self.address} has tables {', '.join(existing)}, but not all tables of a journal: name a database or "
                "a schema for the journal in service.journal, such as "
                "postgresql://user@host/database?options=-csearch_path%3Dreclora."
            )
        return bool(existing)

    def is_lost(self, connection: Connection) -> bool:
        return bool(connection.driver.closed)


def erase_events(address: str, users: Iterable[Any]) -> int:
    """Delete all events of users for good and return their number, 0 if there is no journal; services notice at once.

    ValueError is raised for a journal that is locked or cannot be reached, and for what is no journal.
    """
    if is_remote(address):
        return 0
    database = journal_database(address)
    try:
        if (existing := database.connect_to_read()) is None:
            return 0
        existing.close()
        with closing(database.connect()) as connection:
            connection.driver.execute(database.begin_writing)
            events = erase_users(connection, filter(None, map(id_text, users)))
            connection.driver.execute("COMMIT")
            database.remove_remains(connection)
    except (JournalError, database.Error) as error:
        raise ValueError(f"Events cannot be erased: {database.failure(error)}") from error
    return events
