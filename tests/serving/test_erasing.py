"""Erasure of users from the journal."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest

from reclora_kedro.serving.erasing import erase_events

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (sequence INTEGER PRIMARY KEY, user_id TEXT, item_id TEXT);
CREATE TABLE dropped_users (user_id TEXT PRIMARY KEY);
INSERT INTO events (user_id, item_id) VALUES ('someone', 'a'), ('forgotten', 'b'), ('forgotten', 'c');
INSERT INTO dropped_users VALUES ('forgotten');
"""


def test_no_byte_of_a_user_is_left_while_the_service_runs(tmp_path):
    file = tmp_path / "journal.sqlite"
    erase = partial(erase_events, str(file))
    assert erase(["forgotten"]) == 0  # there is no journal yet
    with closing(sqlite3.connect(file)) as service:
        service.executescript(TABLES)
        assert erase(["forgotten", 7]) == 2
        assert service.execute("SELECT user_id FROM events").fetchall() == [("someone",)]
        assert not any(b"forgotten" in path.read_bytes() for path in tmp_path.iterdir())
        assert erase(["forgotten"]) == 0


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").write_text("events: none")
    with pytest.raises(ValueError, match=r"cannot be erased from the service's journal .* an SQLite file with"):
        erase_events(str(tmp_path / "journal.sqlite"), [7])
