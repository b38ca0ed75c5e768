"""What is acknowledged is there, once; see `test_faults` for processes that are killed."""

import sqlite3

import pytest

from reclora_kedro.serving.journal import FILE, Content, Event, Journal, JournalError


def event(number, **changes):
    return Event(**{"event_id": f"e{number}", "user_id": "7", "item_id": "50", "rating": 4.0, "timestamp": 9} | changes)


def content_of(journal):
    return journal.between_commits(lambda content: content).result()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def journal(tmp_path, heard):
    journal = Journal(tmp_path, heard.append)
    yield journal
    journal.close()


def test_an_event_counts_once_and_a_later_one_replaces_it_where_that_is_asked(journal, heard):
    assert journal.add([event(1), event(2), event(1)]).result() == 2
    assert journal.add([event(1, rating=1.0)]).result() == 0
    assert heard == [[event(1), event(2)]]
    assert journal.add([event(1, rating=1.0)], replace=True).result() == 1
    assert heard[-1] == content_of(journal) == Content([event(2), event(1, rating=1.0)], {})


def test_a_dropped_user_is_in_no_file(journal, tmp_path):
    journal.add([event(1, user_id="the one who left"), event(2)]).result()
    assert journal.drop_user("the one who left", now=10, is_known=True).result() == 1
    assert content_of(journal) == Content([event(2)], {"the one who left": 10})
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"e1" not in files


def test_two_services_do_not_share_a_folder(tmp_path):
    first = Journal(tmp_path, print)
    with pytest.raises(JournalError, match=r"Another service keeps its journal in .*service\.folder"):
        Journal(tmp_path, print)
    first.close()
    Journal(tmp_path, print).close()


def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path):
    file = tmp_path / FILE
    file.write_text("notes of somebody" * 100)
    for _ in range(2):  # the folder is free again
        with pytest.raises(JournalError, match=r"journal\.sqlite cannot be used as a journal .*Move it away"):
            Journal(tmp_path, print)
    assert file.read_text() == "notes of somebody" * 100


def test_what_cannot_be_written_is_told_and_nothing_of_it_stays(journal, heard):
    journal.add([event(1)]).result()
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.add([event(number, item_id="x" * 200) for number in range(2, 400)]).result()
    assert content_of(journal).events == [event(1)]
    assert len(heard) == 1
