"""Erasure of users from the journal."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest

from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.serving.journal import Journal
from reclora_kedro.serving.journal_databases import SqliteFile, erase_events

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    item_id TEXT NOT NULL, rating REAL, timestamp INTEGER NOT NULL, request_id TEXT);
CREATE TABLE dropped_users (user_id TEXT PRIMARY KEY, timestamp INTEGER NOT NULL);
INSERT INTO events (event_id, user_id, item_id, timestamp)
    VALUES (1, 'someone', 'a', 9), (2, ' forgotten', 'b', 9), (3, 'forgotten', 'c', 9);
INSERT INTO dropped_users VALUES ('forgotten', 9);
"""  # as of release 0.1.0


def test_no_byte_of_a_user_is_left_while_the_service_runs(tmp_path):
    file = tmp_path / "journal.sqlite"
    erase = partial(erase_events, str(file))
    assert erase(["forgotten"]) == 0  # there is no journal yet
    with closing(sqlite3.connect(file)) as service:
        service.executescript(TABLES)
        assert erase(["\xa0forgotten", 7.0]) == 2
        assert service.execute("SELECT user_id FROM events").fetchall() == [("someone",)]
        assert not any(b"forgotten" in path.read_bytes() for path in tmp_path.iterdir())
        assert erase(["forgotten"]) == 0


def test_a_service_that_takes_a_journal_over_strips_its_ids(tmp_path):
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO events (event_id, user_id, item_id, timestamp) VALUES (4, '\xa0', 'd', 9)")
        connection.execute("INSERT INTO dropped_users VALUES (' forgotten ', 20)")
        connection.commit()
    journal, before = Journal(SqliteFile(str(file)), lambda change: None), JournalDataset(journal=str(file)).load()
    content = journal.content()
    assert [(event.event_id, event.user_id) for event in content.events] == [
        ("1", "someone"),
        ("2", "forgotten"),
        ("3", "forgotten"),
    ]
    assert content.dropped == {"forgotten": 20}
    assert before["user_id"].to_list() == ["someone", "forgotten", "forgotten"]
    assert journal.add([content.events[1]]).result().stored == 0  # it is known
    assert journal.drop_user("forgotten", 30, is_known=True).result() == 2
    journal.close()
    assert JournalDataset(journal=str(file)).load()["user_id"].to_list() == ["someone"]


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").write_text("events: none")
    with pytest.raises(
        ValueError, match=r"Events cannot be erased: .* cannot be used as a journal .* an SQLite file that"
    ):
        erase_events(str(tmp_path / "journal.sqlite"), [7])
