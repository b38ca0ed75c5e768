"""The service's journal as a catalog entry."""

import sqlite3

import pytest
from kedro.io import DatasetError

from kedro_provenance.session import CachingConfigLoader
from projects import ROOT
from reclora_kedro import settings
from reclora_kedro.datasets.journal import SCHEMA, JournalDataset


def test_events_come_as_they_were_acknowledged_while_the_journal_is_written(tmp_path):
    file = tmp_path / "journal.sqlite"
    assert JournalDataset(file=str(file)).load().schema == SCHEMA
    with sqlite3.connect(file, isolation_level=None) as journal:
        journal.execute("PRAGMA journal_mode = WAL")
        journal.execute(
            "CREATE TABLE events (sequence INTEGER PRIMARY KEY, event_id TEXT, user_id TEXT, item_id TEXT, "
            "rating REAL, timestamp INTEGER, request_id TEXT)"
        )  # as of release 0.1.0
        journal.execute("INSERT INTO events VALUES (2, 'b', '7', '50', NULL, 20, ''), (1, 'a', '9', '50', 4, 30, '')")
        journal.execute("BEGIN IMMEDIATE")
        journal.execute("INSERT INTO events VALUES (3, 'c', '7', '51', 5, 40, '')")
        assert JournalDataset(file=str(file)).load().rows() == [("9", "50", 4.0, 30), ("7", "50", None, 20)]
        journal.execute("ROLLBACK")
    journal.close()


def test_runs_read_the_journal_of_the_folder_that_the_service_keeps_it_in():
    for folder in ("mine", "yours"):
        given = {"service": {"folder": folder}}
        loader = CachingConfigLoader(str(ROOT / "conf"), "test", given, **settings.CONFIG_LOADER_ARGS)
        assert loader["catalog"]["journal"]["file"] == f"{folder}/journal.sqlite"


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").write_text("events: none")
    with pytest.raises(DatasetError, match="cannot be used as the service's journal"):
        JournalDataset(file=str(tmp_path / "journal.sqlite")).load()
