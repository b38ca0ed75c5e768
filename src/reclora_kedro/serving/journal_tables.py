"""Tables of a journal, the same in every database, and the statements on them.

SQLAlchemy writes each statement once for a database, and the database driver's own connection runs the text: through
SQLAlchemy's connections, each statement would take 12 µs of CPU more, and storing an event takes a dozen of them.
"""

import math
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement

from reclora_kedro.ingestion.ids import BLANKS

TABLES = MetaData()
EVENTS = Table(
    "events",
    TABLES,
    # Never given twice, and committed in this order, as one writer at a time has the lock of the database.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("rating", Double),
    Column("timestamp", BigInteger, nullable=False),
    Column("request_id", Text),
    # Those of earlier releases lack these until a service takes them over.
    Column("checksum", BigInteger),
    Column("columns", Text),  # declared ones as JSON, see `EventSchema.text`
    Index("events_of_users", "user_id"),
    sqlite_autoincrement=True,
)
DROPPED_USERS = Table(
    "dropped_users",
    TABLES,
    Column("user_id", Text, primary_key=True),
    Column("timestamp", BigInteger, nullable=False),  # second until which all their events are dropped
)
CHANGED_USERS = Table(
    "changed_users",
    TABLES,
    Column("user_id", Text, primary_key=True),
    Column("change", BigInteger, nullable=False, unique=True, autoincrement=False),
)
ERASURES = Table(
    "erasures",
    TABLES,
    # Of one row, drawn anew whenever users are erased: a restored backup has another one.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
)
TOTALS = Table(
    "totals",
    TABLES,
    # Of one row: what all events together must be, so that rows that are deleted or added by hand are noticed.
    Column("events", BigInteger, primary_key=True, autoincrement=False),
    Column("checksums", BigInteger, nullable=False),
)

OF_USER = bindparam("user_id", type_=Text)
NONE = literal_column("0", Integer)
ADD_EVENT = insert(EVENTS).inline()
DELETE_EVENT = delete(EVENTS).where(EVENTS.c.event_id == bindparam("event_id"))
DELETE_EVENTS = delete(EVENTS).where(EVENTS.c.user_id == OF_USER)
SUMS = select(func.count(), func.coalesce(func.sum(EVENTS.c.checksum), NONE)).select_from(EVENTS)
SUMS_OF_USER = SUMS.where(EVENTS.c.user_id == OF_USER)
READ_TOTALS, ADD_TOTALS = select(TOTALS.c.events, TOTALS.c.checksums), insert(TOTALS).inline()
COUNT = update(TOTALS).values(
    events=TOTALS.c.events + bindparam("more", type_=BigInteger),
    checksums=TOTALS.c.checksums + bindparam("further", type_=BigInteger),
)
# Whatever columns there are: a journal of an earlier release is read before a service takes it over.
ALL_EVENTS = select(literal_column("*", Text)).select_from(EVENTS)
EVENT = ALL_EVENTS.where(EVENTS.c.event_id == bindparam("event_id"))
NEW_EVENTS = ALL_EVENTS.where(EVENTS.c.sequence > bindparam("after")).order_by(EVENTS.c.sequence)
EVENTS_OF_USER = NEW_EVENTS.where(EVENTS.c.user_id == OF_USER)
SET_CHECKSUM = update(EVENTS).where(EVENTS.c.sequence == bindparam("number")).values(checksum=bindparam("sum"))
DROPPED = select(DROPPED_USERS)
DROPPED_UNTIL = select(DROPPED_USERS.c.timestamp).where(DROPPED_USERS.c.user_id == OF_USER)
DELETE_DROPPED = delete(DROPPED_USERS).where(DROPPED_USERS.c.user_id == OF_USER)
ADD_DROPPED = insert(DROPPED_USERS).inline()
LAST_CHANGE = select(func.coalesce(func.max(CHANGED_USERS.c.change), NONE))
CHANGED = select(CHANGED_USERS.c.user_id).where(CHANGED_USERS.c.change > bindparam("after"))
DELETE_CHANGED = delete(CHANGED_USERS).where(CHANGED_USERS.c.user_id == OF_USER)
ADD_CHANGED = insert(CHANGED_USERS).inline()
ERASURE = select(func.coalesce(func.max(ERASURES.c.number), NONE))
DELETE_ERASURE, ADD_ERASURE = delete(ERASURES), insert(ERASURES).inline()
PLACE = select(
    ERASURE.scalar_subquery(),
    LAST_CHANGE.scalar_subquery(),
    select(func.coalesce(func.max(EVENTS.c.sequence), NONE)).scalar_subquery(),
)


class DriverConnection(Protocol):
    """What the connections of sqlite3 and Psycopg have in common."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Any: ...

    def cursor(self) -> Any: ...

    def close(self) -> None: ...


class Connection:
    """A connection that runs statements of SQLAlchemy, each of which is committed unless a transaction has begun."""

    def __init__(self, driver: DriverConnection, dialect: Dialect) -> None:
        self.driver, self._dialect = driver, dialect
        self.close = driver.close

    def run(self, statement: ClauseElement, **values: Any) -> Any:
        """Run a statement and return the driver's cursor."""
        return self.driver.execute(_text(self._dialect, statement, tuple(values)), values)

    def run_for_each(self, statement: ClauseElement, rows: Iterable[Mapping[str, Any]]) -> int:
        """Run a statement with the values of each row, and return the number of changed rows."""
        if not (rows := list(rows)):
            return 0
        cursor = self.driver.cursor()
        cursor.executemany(_text(self._dialect, statement, tuple(rows[0])), rows)
        return int(cursor.rowcount)

    def has_totals(self) -> bool:
        """Whether events are counted, as they are once a service has taken the journal over."""
        is_file = self._dialect.name == "sqlite"
        catalog = "FROM sqlite_schema WHERE name = 'totals'" if is_file else "WHERE to_regclass('totals') IS NOT NULL"
        return self.driver.execute(f"SELECT 1 {catalog}").fetchone() is not None

    def make_totals(self) -> None:
        """Count the events, unless they are counted."""
        if self.run(READ_TOTALS).fetchone() is None:
            [[events, checksums]] = self.run(SUMS).fetchall()
            self.run(ADD_TOTALS, events=events, checksums=int(checksums))

    def make_tables(self) -> None:
        """Create the tables that do not exist."""
        for table in TABLES.sorted_tables:
            self.driver.execute(_text(self._dialect, CreateTable(table, if_not_exists=True)))
            for index in table.indexes:
                self.driver.execute(_text(self._dialect, CreateIndex(index, if_not_exists=True)))


@cache
def _text(dialect: Dialect, statement: ClauseElement, columns: tuple[str, ...] = ()) -> str:
    """Return a statement in the language of a database; an insertion has the columns that are given."""
    named: Any = {"column_keys": columns} if getattr(statement, "is_insert", False) else {}
    return str(statement.compile(dialect=dialect, **named))


UNCHECKED = "unchecked"  # stands for the checksum in journals of earlier releases, which have none
TEXT = (str, type(None))
TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("event_id", "user_id", "item_id"), (str,)),
    **dict.fromkeys(("request_id", "columns"), TEXT),
    "rating": (float, int, type(None)),
    "timestamp": (int,),
}
"""Types of what services write; SQLite keeps any."""


class Event(NamedTuple):
    """An interaction sent to the service."""

    event_id: str
    user_id: str
    item_id: str
    rating: float | None  # 1 in logs without ratings; None: shown, not clicked
    timestamp: int  # seconds since the epoch
    request_id: str | None = None  # of the recommendation that led to it
    columns: str | None = None  # declared ones as JSON, see `EventSchema.text`


class Place(NamedTuple):
    """How much of a journal has been read."""

    erasure: int  # number of the last erasure of users
    change: int  # number of the last user's change
    sequence: int  # number of the last event


class JournalError(RuntimeError):
    """A journal cannot be kept or read, or is not valid."""


def checksum(event: Event) -> int:
    """Return the checksum that is stored beside an event.

    Examples:
        >>> checksum(Event("e1", "7", "50", 4, 9)) == checksum(Event("e1", "7", "50", 4.0, 9))
        True
    """
    values = event._replace(rating=None if event.rating is None else float(event.rating))._asdict()
    if event.columns is None:  # as in earlier releases
        del values["columns"]
    return zlib.crc32(repr(tuple(values.values())).encode())


def stored_event(connection: Connection, event_id: str) -> Event | None:
    rows = _rows(connection.run(EVENT, event_id=event_id))
    return next((event for event, _, _ in rows), None)


def stored_events(connection: Connection, after: int = 0, user_id: str | None = None) -> list[Event]:
    """Return the events of a journal behind a place, in the order in which they were acknowledged.

    Args:
        user_id: whose events are read; None for all.

    Raises:
        JournalError: an event is not as it was written, or there are others than were written. Those of earlier
            releases have no checksum until a service takes the journal over.
    """
    of_user = {} if user_id is None else {"user_id": user_id}
    rows = connection.run(EVENTS_OF_USER if of_user else NEW_EVENTS, after=after, **of_user)
    events, checksums = list[Event](), 0
    for event, sequence, stored in _rows(rows):
        events.append(_as_read(event))
        checksums += (own := checksum(event))
        if stored not in (UNCHECKED, own):
            raise _damaged(sequence, "its checksum is another one" if stored is not None else "it has no checksum")
    if not after and user_id is None and connection.has_totals():
        counted = connection.run(READ_TOTALS).fetchone()
        if counted is not None and tuple(counted) != (len(events), checksums):
            raise JournalError(
                f"The journal is damaged: it holds {len(events):,} events, which are not the {counted[0]:,} that were "
                "written: rows were deleted or added by hand. Restore a backup, or go on with what it holds: DELETE "
                "FROM totals."
            )
    return events


def _damaged(sequence: int, fault: str) -> JournalError:
    return JournalError(
        f"The journal is damaged: the event with the sequence {sequence} is not as it was written, as {fault}. Restore "
        f"a backup, or drop that event: DELETE FROM events WHERE sequence = {sequence}; DELETE FROM totals."
    )


def _as_read(event: Event) -> Event:
    """Return an event with ids as they are read everywhere: earlier releases stored blanks around them."""
    return event._replace(user_id=event.user_id.strip(BLANKS), item_id=event.item_id.strip(BLANKS))


def _rows(cursor: Any) -> Iterator[tuple[Event, int, Any]]:
    """Yield the events of rows, with their sequence and checksum, whichever columns a journal has.

    Raises:
        JournalError: a value is of another type than services write, or no number.
    """
    names = [column[0] for column in cursor.description]
    for values in cursor:
        row: dict[str, Any] = dict(zip(names, values, strict=True))
        columns: Any = {name: row.get(name) for name in Event._fields}
        sequence, checked = row["sequence"], row.get("checksum", UNCHECKED)
        for name, value in columns.items():
            if not isinstance(value, TYPES[name]) or (isinstance(value, float) and not math.isfinite(value)):
                raise _damaged(sequence, f"its {name} is {str(value)[:100]!r}")
        yield Event(**columns), sequence, checked


def add_event(connection: Connection, event: Event) -> None:
    own = checksum(event)
    connection.run(ADD_EVENT, **event._asdict(), checksum=own)
    connection.run(COUNT, more=1, further=own)


def delete_event(connection: Connection, event: Event) -> None:
    connection.run(DELETE_EVENT, event_id=event.event_id)
    connection.run(COUNT, more=-1, further=-checksum(event))


def delete_events(connection: Connection, user_id: str) -> int:
    """Delete the events of a user, and return their number."""
    [[events, checksums]] = connection.run(SUMS_OF_USER, user_id=user_id).fetchall()
    connection.run(DELETE_EVENTS, user_id=user_id)
    connection.run(COUNT, more=-events, further=-int(checksums))
    return int(events)


def add_checksums(connection: Connection) -> None:
    """Give the events of an earlier release their checksums."""
    rows = [*_rows(connection.run(ALL_EVENTS.where(EVENTS.c.checksum.is_(None))))]
    connection.run_for_each(SET_CHECKSUM, [{"number": sequence, "sum": checksum(event)} for event, sequence, _ in rows])


def drop_until(connection: Connection, user_id: str, second: int) -> None:
    """Record until which second all events of a user are dropped, if that is later than what is recorded."""
    recorded = connection.run(DROPPED_UNTIL, user_id=user_id).fetchone() or ()
    connection.run(DELETE_DROPPED, user_id=user_id)
    connection.run(ADD_DROPPED, user_id=user_id, timestamp=max([second, *recorded]))


def note_change(connection: Connection, user_id: str) -> None:
    """Make all services read a user's events again after this transaction."""
    [[last]] = connection.run(LAST_CHANGE).fetchall()
    connection.run(DELETE_CHANGED, user_id=user_id)
    connection.run(ADD_CHANGED, user_id=user_id, change=last + 1)


def erase_users(connection: Connection, users: Iterable[str]) -> int:
    """Delete all that a journal has of users, and make all services read it again; return the number of events."""
    erased, stored = {*users}, set[str]()
    for table in (EVENTS, DROPPED_USERS, CHANGED_USERS):
        stored |= {user for (user,) in connection.run(select(table.c.user_id).distinct()).fetchall()}
    ids = [{"user_id": user} for user in sorted(stored) if user.strip(BLANKS) in erased]
    for statement in (DELETE_DROPPED, DELETE_CHANGED):
        connection.run_for_each(statement, ids)
    connection.run(DELETE_ERASURE)
    connection.run(ADD_ERASURE, number=secrets.randbits(62))
    return sum(delete_events(connection, each["user_id"]) for each in ids)


def read_place(connection: Connection) -> Place:
    return Place(*connection.run(PLACE).fetchone())
