"""Acknowledged events are stored, once; see `test_faults` for processes that are killed."""

import sqlite3
from contextlib import closing
from sqlite3 import SQLITE_DENY as DENY
from sqlite3 import SQLITE_OK as OK
from threading import Barrier
from time import sleep

import pytest
from kedro.io import DatasetError

from live_service import FILE
from reclora_kedro import extras
from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.serving.journal import (
    Added,
    Changes,
    Content,
    EventConflictError,
    Journal,
    MaybeStoredError,
    NotAppliedError,
    NotStoredError,
    UserContent,
)
from reclora_kedro.serving.journal_databases import SqliteFile, erase_events, journal_database
from reclora_kedro.serving.journal_tables import Event, JournalError, add_event

pytestmark = pytest.mark.waits


def ignore(change):
    pass


def file_in(folder):
    return SqliteFile(str(folder / FILE))


def event(number, **changes):
    return Event(**{"event_id": f"e{number}", "user_id": "7", "item_id": "50", "rating": 4.0, "timestamp": 9} | changes)


@pytest.fixture
def heard():
    return []


@pytest.fixture(params=["file", "server"])
def database(request, tmp_path):
    """A database of each kind, without a journal yet."""
    if request.param == "file":
        return file_in(tmp_path)
    return journal_database(request.getfixturevalue("postgres"))


@pytest.fixture
def journal(database, heard):
    journal = Journal(database, heard.append)
    yield journal
    journal.close()


@pytest.fixture
def file_journal(tmp_path, heard):
    journal = Journal(file_in(tmp_path), heard.append)
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


def test_a_dropped_user_is_in_no_file(file_journal, tmp_path):
    theirs = event(1, event_id="an event of theirs", user_id="the one who left")  # longer than what salts spell
    file_journal.add([theirs, event(2)]).result()
    assert file_journal.drop_user("the one who left", now=10, is_known=True).result() == 1
    assert file_journal.content() == Content([event(2)], {"the one who left": 10})
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"an event of theirs" not in files


def test_events_that_were_dropped_stay_so_when_a_later_request_drops_until_an_earlier_second(journal):
    for now in (10, 7, 12):
        journal.drop_user("7", now, is_known=True).result()
        assert journal.content().dropped == {"7": max(10, now)}


def test_services_of_one_journal_read_what_the_others_commit(journal, heard, database):
    others = []
    other = Journal(database, others.append)
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


def test_a_new_listener_is_told_of_what_came_after_its_beginning(journal, heard, database):
    other = Journal(database, ignore)
    other.add([event(1)]).result()
    begun = []
    journal.attach(begun.append)
    journal.refresh()
    other.add([event(2)]).result()
    other.close()
    journal.refresh()
    assert (begun, heard) == ([Content([event(1)], {})], [Changes([event(2)])])


def damaged(file):
    journal = Journal(SqliteFile(str(file)), ignore)
    journal.add([event(number, item_id="x" * 500) for number in range(200)]).result()
    journal.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    content = bytearray(file.read_bytes())
    content[9000:60_000] = bytes(51_000)
    file.write_bytes(content)


@pytest.mark.parametrize("spoil", [damaged, lambda file: file.write_text("notes of somebody" * 100)])
def test_a_file_that_is_no_sound_journal_stays_as_it_is(tmp_path, spoil):
    file = tmp_path / FILE
    spoil(file)
    content = file.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.sqlite cannot be used as a journal .*Move it away"):
        file_in(tmp_path).require_usable()
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_events_that_a_removed_or_replaced_file_would_lose_are_refused(file_journal, tmp_path):
    file_journal.add([event(1)]).result()
    backup = tmp_path / "backup"
    with closing(sqlite3.connect(backup)) as copy:
        file_journal._reader.driver.backup(copy)
    for change in (lambda: backup.replace(tmp_path / FILE), (tmp_path / FILE).unlink):
        change()
        with pytest.raises(NotStoredError, match=r"removed or replaced while the service ran.*start the service anew"):
            file_journal.add([event(2)]).result()
        assert "removed or replaced" in file_journal.fault  # without a write, too


def test_a_file_that_lost_all_its_events_is_no_new_journal(tmp_path):
    (tmp_path / FILE).touch()
    with pytest.raises(JournalError, match=r"is empty, but the current model has read events of a journal"):
        file_in(tmp_path).require_events()
    (tmp_path / FILE).unlink()
    file_in(tmp_path).require_events()
    Journal(file_in(tmp_path), ignore).close()
    file_in(tmp_path).require_events()


@pytest.mark.parametrize("is_of_earlier_release", [False, True])
def test_a_flipped_bit_of_an_event_is_seen(tmp_path, is_of_earlier_release):
    file, journal = tmp_path / FILE, Journal(file_in(tmp_path), ignore)
    journal.add([event(1), event(2, item_id="a certain item")]).result()
    journal.close()
    if is_of_earlier_release:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("ALTER TABLE events DROP COLUMN checksum")
        assert JournalDataset(journal=str(file)).load().height == 2
        Journal(file_in(tmp_path), ignore).close()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"a certain item", b"a certain itel"))
    journal = Journal(file_in(tmp_path), ignore)  # sound as an SQLite file
    with pytest.raises(JournalError, match=r"sequence 2 is not as it was written.*Restore a backup"):
        journal.content()
    journal.close()
    with pytest.raises(DatasetError, match=r"journal\.sqlite: The journal is damaged"):
        JournalDataset(journal=str(file)).load()


BY_HAND = {
    "a rating beyond the scale": "UPDATE events SET rating = 99 WHERE sequence = 2",
    "an infinite rating": "UPDATE events SET rating = 9e999 WHERE sequence = 2",
    "a text as rating": "UPDATE events SET rating = 'good' WHERE sequence = 2",
    "a wrong time": "UPDATE events SET timestamp = 'yesterday' WHERE sequence = 2",
    "bytes as id": "UPDATE events SET user_id = x'00ff' WHERE sequence = 2",
    "no checksum": "UPDATE events SET rating = 1, checksum = NULL WHERE sequence = 2",
}
ROW = "INSERT INTO events (event_id, user_id, item_id, rating, timestamp) VALUES ('e9', '7', '50', 99, 9)"


def damaged(tmp_path, *statements):
    """A journal of three events on which statements were run by hand."""
    journal = Journal(file_in(tmp_path), ignore)
    journal.add([event(number) for number in (1, 2, 3)]).result()
    journal.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return str(tmp_path / FILE)


@pytest.mark.parametrize("change", BY_HAND)
@pytest.mark.parametrize("is_of_earlier_release", [False, True])
def test_an_event_that_no_service_wrote_is_refused_by_its_number(tmp_path, change, is_of_earlier_release):
    """Without checksums, as before a service takes a journal over, by its types."""
    older = ["ALTER TABLE events DROP COLUMN checksum", "DROP TABLE totals"] if is_of_earlier_release else []
    if is_of_earlier_release and change in ("no checksum", "a rating beyond the scale"):
        pytest.skip("nothing tells it from an event of an earlier release")
    file = damaged(tmp_path, BY_HAND[change], *older)
    with pytest.raises(DatasetError, match=r"journal\.sqlite: The journal is damaged: the event with the sequence 2"):
        JournalDataset(journal=file).load()
    with pytest.raises(JournalError, match="sequence 2 is not as it was written"):
        Journal(file_in(tmp_path), ignore).content()


@pytest.mark.parametrize("statement", ["DELETE FROM events WHERE sequence = 3", "DELETE FROM events", ROW])
def test_rows_that_were_deleted_or_added_by_hand_are_noticed_until_an_operator_takes_what_is_there(tmp_path, statement):
    file = damaged(tmp_path, statement)
    with pytest.raises(DatasetError, match=r"damaged: (it holds [02] events, but 3 were written|.* sequence 4)"):
        JournalDataset(journal=file).load()
    if statement != ROW:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DELETE FROM totals")
            connection.commit()
        Journal(file_in(tmp_path), ignore).close()
        assert JournalDataset(journal=file).load().height in (0, 2)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE events SET rating = 99 WHERE sequence = 2", "sequence 2 is not as it was written, as its checksum"),
        ("UPDATE events SET rating = 'NaN' WHERE sequence = 2", "sequence 2 .* as its rating is 'nan'"),
        ("UPDATE events SET checksum = NULL WHERE sequence = 2", "sequence 2 .* it has no checksum"),
        ("DELETE FROM events WHERE sequence = 3", "holds 2 events, but 3 were written"),
        ("DELETE FROM events", "holds 0 events, but 3 were written"),
        (ROW, "sequence 4 .* it has no checksum"),
    ],
)
def test_what_is_changed_by_hand_in_a_server_is_named(postgres, statement, words):
    import psycopg

    journal = Journal(journal_database(postgres), ignore)
    journal.add([event(number) for number in (1, 2, 3)]).result()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(statement)
    with pytest.raises(JournalError, match=words):
        journal.content()
    with pytest.raises(DatasetError, match=f"The journal is damaged: .*{words}"):
        JournalDataset(journal=postgres).load()
    journal.close()


def test_what_services_add_replace_drop_and_erase_is_counted(journal, database):
    journal.add([event(1), event(2), event(3, user_id="8"), event(4, user_id="9")]).result()
    journal.add([event(1, rating=1.0)], replace=True).result()
    journal.drop_user("8", 10, True).result()
    erase_events(database.address, ["9"])
    assert journal.content().events == [event(2), event(1, rating=1.0)]


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be kept in .*Not a directory.*service\.journal"):
        Journal(file_in(tmp_path / "file" / "folder"), ignore)


def test_a_write_that_fails_stores_nothing_and_the_journal_says_so_until_one_succeeds(file_journal, heard):
    file_journal.add([event(1)]).result()
    pages = file_journal._connection.driver.execute("PRAGMA page_count").fetchone()[0]
    file_journal._connection.driver.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotStoredError, match="full"):
        file_journal.add([event(number, item_id="x" * 200) for number in range(2, 400)]).result()
    assert file_journal.content().events == [event(1)]
    assert len(heard) == 1
    assert "full" in file_journal.fault
    assert file_journal.try_out().result() is file_journal.fault is None


def test_a_checkpoint_that_fails_changes_no_reply_and_is_made_up_for(file_journal, heard, tmp_path):
    file_journal.add([event(1, user_id="the one who left"), event(2)]).result()
    file_journal._connection.driver.set_authorizer(lambda action, name, *_: DENY if name == "wal_checkpoint" else OK)
    assert file_journal.drop_user("the one who left", now=10, is_known=True).result() == 1
    assert heard[-1] == Changes([], {"the one who left": UserContent([], 10)})
    assert file_journal.content() == Content([event(2)], {"the one who left": 10})
    file_journal._connection.driver.set_authorizer(None)
    assert file_journal.add([event(3)]).result() == Added(1, 0)
    assert (tmp_path / f"{FILE}-wal").stat().st_size == 0


def test_a_listener_that_fails_is_told_of_everything_once_more_and_no_reply_says_that_nothing_is_stored(database):
    heard, faults, is_broken = [], [], [True]

    def listen(change):
        if is_broken.pop() if is_broken else False:
            raise ValueError("no room")
        heard.append(change)

    journal = Journal(database, listen, faults.append)
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


def test_an_event_whose_number_is_smaller_is_never_missed(journal, heard, database):
    """A service is held within its transaction, with an event that has its number; another one wants the next."""
    other = Journal(database, ignore)
    begun, go_on = Barrier(2), Barrier(2)

    def hold(connection):
        add_event(connection, event(1))
        begun.wait(5)
        go_on.wait(5)

    first = journal._submit(hold)
    begun.wait(5)
    second = other.add([event(2)])
    sleep(0.2)
    assert not second.done()
    journal.refresh()
    go_on.wait(5)
    first.result(5)
    assert second.result(5) == Added(1, 0)
    journal.refresh()
    assert [each for change in heard for each in change.events] == [event(1), event(2)]  # at once, or one by one
    other.close()


def test_a_server_that_starts_anew_costs_no_acknowledged_event_and_no_service(postgres_server, postgres, heard):
    database, told, faults = journal_database(postgres), [], []
    journal, other = Journal(database, heard.append), Journal(database, told.append, faults.append)
    journal.add([event(1)]).result()
    other.refresh()
    postgres_server.kill()
    with pytest.raises(NotStoredError, match=r"cannot be written: .*connection"):
        journal.add([event(2)]).result()
    other.refresh()
    assert "cannot be read: " in other.fault
    assert told == [Changes([event(1)])]  # by which answers go on
    postgres_server.start()
    assert journal.add([event(1), event(2)]).result() == Added(1, 0)
    sleep(1)  # the pause after failed looks
    other.refresh()
    whole = Content([event(1), event(2)], {})
    assert (other.fault, journal.fault, told[-1], heard[-1], faults) == (None, None, whole, whole, ["read"])
    postgres_server.kill()
    postgres_server.start()  # while nobody asks for anything
    assert other.content() == journal.content() == whole
    assert journal.add([event(3)]).result() == Added(1, 0)
    for each in (journal, other):
        each.close()


def test_a_commit_whose_answer_is_lost_is_not_said_to_be_stored_or_not(postgres_server, postgres):
    journal = Journal(journal_database(postgres), ignore)
    journal.add([event(1)]).result()
    driver = journal._connection.driver

    class Interrupted:
        """A connection that is lost once the server has committed."""

        def __getattr__(self, name):
            return getattr(driver, name)

        def execute(self, statement, *values):
            done = driver.execute(statement, *values)
            if statement == "COMMIT":
                driver.close()
                raise journal._database.Error("the server closed the connection")
            return done

    journal._connection.driver = Interrupted()
    with pytest.raises(MaybeStoredError, match="the server closed the connection"):
        journal.add([event(2)]).result()
    assert journal.add([event(2)]).result() == Added(0, 0)  # sent again, it counts once
    journal.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://me:secret@host/shop", "holds a password, .* PGPASSWORD or in the file ~/.pgpass"),
        (
            "postgresql://me:secret@[host/shop",
            r"is not an address of PostgreSQL: expected postgresql://user@host:5432/",
        ),
        ("mysql://host/shop", "is at mysql://, but the journal needs a local file"),
        ("s3://bucket/journal.sqlite", "is at s3://, but the journal needs a local file"),
    ],
)
def test_an_address_that_is_no_journals_is_refused_without_its_password(address, words):
    with pytest.raises(JournalError, match=words) as refused:
        journal_database(address)
    assert "secret" not in str(refused.value)


def test_a_database_of_somebody_else_stays_as_it_is(postgres):
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE events (id BIGINT)")
        with pytest.raises(JournalError, match=r"has tables events, but not all .*search_path%3Dreclora"):
            journal_database(postgres).require_usable()
        connection.execute("CREATE SCHEMA own")
        inside = f"{postgres}?options=-csearch_path%3Down"
        journal = Journal(journal_database(inside), ignore)
        journal.add([event(1)]).result()
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
        assert JournalDataset(journal=inside).load().height == 1
        journal.close()


def test_without_its_extra_a_journal_in_postgresql_is_refused_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(JournalError, match=r"needs the extra `postgres` .*.*pip install 'psycopg\[binary\]"):
        journal_database("postgresql://host/shop")
