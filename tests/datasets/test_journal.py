"""The service's journal as a catalog entry."""

import sqlite3

import polars as pl
import pytest
from kedro.io import DatasetError

from kedro_provenance.entry_digests import digest_of_entry
from kedro_provenance.session import CachingConfigLoader
from live_service import FILE
from projects import ROOT
from reclora_kedro import settings
from reclora_kedro.datasets.journal import SCHEMA, JournalDataset
from reclora_kedro.datasets.newest_versions import ForgottenUsersDataset
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.serving.journal import Journal
from reclora_kedro.serving.journal_databases import SqliteFile, journal_database
from reclora_kedro.serving.journal_tables import Event


def test_events_come_as_they_were_acknowledged_while_the_journal_is_written(tmp_path):
    file = tmp_path / "journal.sqlite"
    assert JournalDataset(journal=str(file)).load().schema == SCHEMA
    with sqlite3.connect(file, isolation_level=None) as journal:
        journal.execute("PRAGMA journal_mode = WAL")
        journal.execute(
            "CREATE TABLE events (sequence INTEGER PRIMARY KEY, event_id TEXT, user_id TEXT, item_id TEXT, "
            "rating REAL, timestamp INTEGER, request_id TEXT)"
        )  # as of release 0.1.0
        journal.execute("INSERT INTO events VALUES (2, 'b', '7', '50 ', NULL, 20, ''), (1, 'a', ' 9', '50', 4, 30, '')")
        journal.execute("BEGIN IMMEDIATE")
        journal.execute("INSERT INTO events VALUES (3, 'c', '7', '51', 5, 40, '')")
        assert JournalDataset(journal=str(file)).load().rows() == [
            ("9", "50", 4.0, 30, None),
            ("7", "50", None, 20, None),
        ]
        journal.execute("ROLLBACK")
    journal.close()


def test_a_restored_backup_loses_the_events_of_forgotten_users(tmp_path, monkeypatch):
    gone = ForgottenUsers().with_users(["gone"])
    rows = pl.DataFrame({"salt": gone.salt, "digest": [*gone.digests]})
    monkeypatch.setattr(ForgottenUsersDataset, "load", lambda self: rows)
    dataset = JournalDataset(journal=str(tmp_path / FILE), path=str(tmp_path / "forgotten_users.json"))
    journal = Journal(SqliteFile(str(tmp_path / FILE)), lambda change: None)
    journal.add([Event("a", "gone", "50", 4.0, 9), Event("b", "stays", "50", 4.0, 9)]).result()
    journal.close()
    assert dataset.load()["user_id"].to_list() == ["stays"]
    assert not any(b"gone" in path.read_bytes() for path in tmp_path.iterdir())


def test_runs_read_the_journal_that_the_service_keeps():
    for address in ("mine/journal.sqlite", "postgresql://db/shop"):
        given = {"service": {"journal": address}}
        loader = CachingConfigLoader(str(ROOT / "conf"), "test", given, **settings.CONFIG_LOADER_ARGS)
        assert loader["catalog"]["journal"]["journal"] == address


def test_new_events_in_a_database_change_what_an_update_reads(postgres):
    entry = {"type": "reclora_kedro.datasets.journal.JournalDataset", "journal": postgres, "path": "users.json"}

    def digest():
        return digest_of_entry(entry, JournalDataset(journal=postgres).load)

    before = digest()
    assert digest() == before
    journal = Journal(journal_database(postgres), lambda change: None)
    journal.add([Event("a", "7", "50", 4.0, 9)]).result()
    journal.close()
    assert digest() != before


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").write_text("events: none")
    with pytest.raises(DatasetError, match="cannot be used as a journal"):
        JournalDataset(journal=str(tmp_path / "journal.sqlite")).load()
