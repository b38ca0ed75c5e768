"""Acknowledged events are stored, once; see `test_faults` for processes that are killed."""

import sqlite3
from contextlib import closing
from sqlite3 import SQLITE_DENY as DENY
from sqlite3 import SQLITE_OK as OK
from threading import Barrier

import pytest
from kedro.io import DatasetError

from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.serving.journal import (
    COLUMNS,
    FILE,
    TABLES,
    Added,
    Changes,
    Content,
    Event,
    EventConflictError,
    Journal,
    JournalError,
    NotAppliedError,
    NotStoredError,
    UserContent,
    require_events,
)


def event(number, **changes):
    return Event(**{"event_id": f"e{number}", "user_id": "7", "item_id": "50", "rating": 4.0, "timestamp": 9} | changes)


@pytest.fixture
def heard():
    return []


@pytest.fixture
def journal(tmp_path, heard):
    journal = Journal(tmp_path, heard.append)
    yield journal
    journal.close()


def test_an_event_id_names_one_event_which_its_own_user_may_replace(journal, heard):
    assert journal.add([event(1), event(2), event(1)]).result() == Added(2, 0)
    assert journal.add([event(1)]).result() == journal.add([event(1)], replace=True).result() == Added(0, 0)
    assert journal.add([event(1, timestamp=8)], without_time={"e1"}).result() == Added(0, 0)
    other = [journal.add([event(3), event(1, **change)]) for change in ({"rating": 1.0}, {"timestamp": 8})]
    other.append(journal.add([event(1, user_id="8")], replace=True))
    for refused in other:
        with pytest.raises(EventConflictError, match="e1"):
            refused.result()
    assert heard == [Changes([event(1), event(2)])]
    assert journal.add([event(1, rating=1.0)], replace=True).result() == Added(1, 0)
    assert heard[1:] == [Changes([], {"7": UserContent([event(2), event(1, rating=1.0)], None)})]
    assert journal.content() == Content([event(2), event(1, rating=1.0)], {})


def test_an_event_that_is_refused_leaves_those_of_the_same_commit_alone(journal, heard):
    journal.add([event(1)]).result()
    begun, go_on = Barrier(2), Barrier(2)
    held = journal._submit(lambda connection: (begun.wait(5), go_on.wait(5)))
    begun.wait(5)
    refused, added = journal.add([event(1, rating=1.0)]), journal.add([event(2)])
    go_on.wait(5)
    held.result(5)
    assert isinstance(refused.exception(5), EventConflictError)
    assert (added.result(5).stored, journal.content().events, heard) == (
        1,
        [event(1), event(2)],
        [Changes([event(1)]), Changes([event(2)])],
    )


def test_a_dropped_user_is_in_no_file(journal, tmp_path):
    theirs = event(1, event_id="an event of theirs", user_id="the one who left")  # longer than what salts spell
    journal.add([theirs, event(2)]).result()
    assert journal.drop_user("the one who left", now=10, is_known=True).result() == 1
    assert journal.content() == Content([event(2)], {"the one who left": 10})
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"an event of theirs" not in files


def test_services_of_one_journal_read_what_the_others_commit(journal, heard, tmp_path):
    others = []
    other = Journal(tmp_path, others.append)
    journal.add([event(1)]).result()
    other.refresh()
    other.add([event(2)]).result()
    other.refresh()
    journal.refresh()
    journal.refresh()
    assert heard == others == [Changes([event(1)]), Changes([event(2)])]
    assert other.add([event(1)]).result() == Added(0, 0)
    other.add([event(1, rating=1.0)], replace=True).result()
    journal.refresh()
    journal.drop_user("7", now=10, is_known=True).result()
    other.refresh()
    ratings = Changes([], {"7": UserContent([event(2), event(1, rating=1.0)], None)})
    assert heard[2:] == others[2:] == [ratings, Changes([], {"7": UserContent([], 10)})]
    other.close()


def test_a_new_listener_is_told_of_what_came_after_its_beginning(journal, heard, tmp_path):
    other = Journal(tmp_path, print)
    other.add([event(1)]).result()
    begun = []
    journal.attach(begun.append)
    journal.refresh()
    other.add([event(2)]).result()
    other.close()
    journal.refresh()
    assert (begun, heard) == ([Content([event(1)], {})], [Changes([event(2)])])


def damaged(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(TABLES)
        rows = ((f"e{number}", "7", "x" * 500, 4.0, 9, None) for number in range(200))
        connection.executemany(f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    content = bytearray(file.read_bytes())
    content[9000:60_000] = bytes(51_000)
    file.write_bytes(content)


@pytest.mark.parametrize("spoil", [damaged, lambda file: file.write_text("notes of somebody" * 100)])
def test_a_file_that_is_no_sound_journal_stays_as_it_is(tmp_path, spoil):
    file = tmp_path / FILE
    spoil(file)
    content = file.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.sqlite cannot be used as a journal .*Move it away"):
        Journal(tmp_path, print)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_events_that_a_removed_or_replaced_file_would_lose_are_refused(journal, tmp_path):
    journal.add([event(1)]).result()
    backup = tmp_path / "backup"
    with closing(sqlite3.connect(backup)) as copy:
        journal._reader.backup(copy)
    for change in (lambda: backup.replace(tmp_path / FILE), (tmp_path / FILE).unlink):
        change()
        with pytest.raises(NotStoredError, match=r"removed or replaced while the service ran.*start the service anew"):
            journal.add([event(2)]).result()
        assert "removed or replaced" in journal.fault  # without a write, too


def test_a_file_that_lost_all_its_events_is_no_new_journal(tmp_path):
    (tmp_path / FILE).touch()
    with pytest.raises(JournalError, match=r"is empty, but the model that is served has read events of a journal"):
        require_events(tmp_path)
    (tmp_path / FILE).unlink()
    require_events(tmp_path)
    Journal(tmp_path, print).close()
    require_events(tmp_path)


@pytest.mark.parametrize("is_of_earlier_release", [False, True])
def test_a_flipped_bit_of_an_event_is_seen(tmp_path, is_of_earlier_release):
    file, journal = tmp_path / FILE, Journal(tmp_path, print)
    journal.add([event(1), event(2, item_id="a certain item")]).result()
    journal.close()
    if is_of_earlier_release:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("ALTER TABLE events DROP COLUMN checksum")
        assert JournalDataset(file=str(file)).load().height == 2
        Journal(tmp_path, print).close()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"a certain item", b"a certain itel"))
    journal = Journal(tmp_path, print)  # sound as an SQLite file
    with pytest.raises(JournalError, match=r"sequence 2 is not as it was written.*Restore a backup"):
        journal.content()
    journal.close()
    with pytest.raises(DatasetError, match=r"journal\.sqlite: The journal is damaged"):
        JournalDataset(file=str(file)).load()


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be kept in .*Not a directory.*service\.folder"):
        Journal(tmp_path / "file" / "folder", print)


def test_a_write_that_fails_stores_nothing_and_the_journal_says_so_until_one_succeeds(journal, heard):
    journal.add([event(1)]).result()
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotStoredError, match="full"):
        journal.add([event(number, item_id="x" * 200) for number in range(2, 400)]).result()
    assert journal.content().events == [event(1)]
    assert len(heard) == 1
    assert "full" in journal.fault
    assert journal.try_out().result() is journal.fault is None


def test_a_checkpoint_that_fails_changes_no_reply_and_is_made_up_for(journal, heard, tmp_path):
    journal.add([event(1, user_id="the one who left"), event(2)]).result()
    journal._connection.set_authorizer(lambda action, name, *_: DENY if name == "wal_checkpoint" else OK)
    assert journal.drop_user("the one who left", now=10, is_known=True).result() == 1
    assert heard[-1] == Changes([], {"the one who left": UserContent([], 10)})
    assert journal.content() == Content([event(2)], {"the one who left": 10})
    journal._connection.set_authorizer(None)
    assert journal.add([event(3)]).result() == Added(1, 0)
    assert (tmp_path / f"{FILE}-wal").stat().st_size == 0


def test_a_listener_that_fails_is_told_of_everything_once_more_and_no_reply_says_that_nothing_is_stored(tmp_path):
    heard, faults, is_broken = [], [], [True]

    def listen(change):
        if is_broken.pop() if is_broken else False:
            raise ValueError("no room")
        heard.append(change)

    journal = Journal(tmp_path, listen, faults.append)
    assert journal.add([event(1)]).result() == Added(1, 0)
    is_broken += [True, True]
    with pytest.raises(NotAppliedError, match=r"no room.*Start the service anew"):
        journal.add([event(2)]).result()
    assert journal.content().events == [event(1), event(2)]
    assert "no room" in journal.fault
    assert journal.add([event(3)]).result() == Added(1, 0)
    whole = [event(1), event(2), event(3)]
    assert (heard, journal.fault) == ([Content([event(1)], {}), Content(whole, {})], None)
    assert faults == ["listener"] * 3
    journal.close()
