"""The journal against a model of it: events, retries, kills, forgetting, restored backups, two services at once."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from live_service import FILE
from reclora_kedro.datasets.journal import JournalDataset
from reclora_kedro.ingestion.forgotten import NOBODY
from reclora_kedro.serving.journal import Content, EventConflictError, Journal
from reclora_kedro.serving.journal_databases import erase_events, journal_database
from reclora_kedro.serving.journal_tables import TABLES, Event

pytestmark = pytest.mark.waits

USERS, IDS, SERVICES = ("ann", "bob"), ("e1", "e2", "e3", "e4"), (0, 1)
EVENTS = st.builds(
    Event,
    *(st.sampled_from(IDS), st.sampled_from(USERS), st.sampled_from("xy"), st.just(4.0), st.integers(1, 2)),
    request_id=st.sampled_from([None, "r"]),  # what a service sends has no NUL, which PostgreSQL cannot store
    columns=st.sampled_from([None, '{"price": 2.5}']),
)


class Listener:
    """What answers of a service would know: the events that its journal told of."""

    def __init__(self):
        self.events = []

    def __call__(self, change):
        if isinstance(change, Content):
            self.events = [*change.events]
        else:
            self.events = [each for each in self.events if each.user_id not in change.users] + change.events
            self.events += [each for content in change.users.values() for each in content.events]


class JournalMachine(RuleBasedStateMachine):
    def make_database(self):
        self.folder = Path(mkdtemp())
        self.address = str(self.folder / FILE)

    def copy_database(self):
        with closing(sqlite3.connect(self.folder / "backup")) as backup:
            self.journals[0][0]._reader.driver.backup(backup)

    def restore_database(self):
        shutil.copy(self.folder / "backup", self.address)

    def remove_database(self):
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self):
        self.make_database()
        self.forgotten = NOBODY
        self.stored = {}  # by event id, in the order in which they were acknowledged
        self.dropped = {}
        self.backup = None
        self.journals = [None, None]
        for service in SERVICES:
            self.open(service)

    def open(self, service):
        listener = Listener()
        journal = Journal(journal_database(self.address), listener, forgotten=lambda: self.forgotten)
        journal.attach(listener)
        self.journals[service] = (journal, listener)

    @rule(service=st.sampled_from(SERVICES), events=st.lists(EVENTS, max_size=3), replace=st.booleans())
    def add(self, service, events, replace):
        after, of_forgotten = dict(self.stored), sum(event.user_id in self.forgotten for event in events)
        is_refused = False
        for event in events:
            if event.user_id in self.forgotten or (stored := after.get(event.event_id)) == event:
                continue
            if stored is not None and not (replace and stored.user_id == event.user_id):
                is_refused = True
                break
            after.pop(event.event_id, None)
            after[event.event_id] = event
        outcome = self.journals[service][0].add(events, replace)
        if is_refused:
            assert isinstance(outcome.exception(10), EventConflictError)
        else:
            assert outcome.result(10).of_forgotten == of_forgotten
            self.stored = after

    @rule(service=st.sampled_from(SERVICES), user=st.sampled_from(USERS))
    def drop(self, service, user):
        self.journals[service][0].drop_user(user, 9, is_known=True).result(10)
        self.stored = {number: event for number, event in self.stored.items() if event.user_id != user}
        if user not in self.forgotten:
            self.dropped |= {user: 9}

    @rule(user=st.sampled_from(USERS))
    def forget(self, user):
        self.forgotten = self.forgotten.with_users([user])
        erase_events(self.address, [user])
        self.forget_in_model()

    @rule(user=st.sampled_from(USERS))
    def readmit(self, user):
        if user in self.forgotten:
            self.forgotten = self.forgotten.without_users([user])

    def forget_in_model(self):
        self.stored = {number: event for number, event in self.stored.items() if event.user_id not in self.forgotten}
        self.dropped = {user: until for user, until in self.dropped.items() if user not in self.forgotten}

    @rule(service=st.sampled_from(SERVICES))
    def start_anew(self, service):
        """As after a kill: what was acknowledged is in the files."""
        self.journals[service][0].close()
        self.open(service)

    @rule()
    def back_up(self):
        self.copy_database()
        self.backup = dict(self.stored), dict(self.dropped)

    @rule()
    def restore(self):
        if self.backup is None:
            return
        for journal, _ in self.journals:
            journal.close()
        self.restore_database()
        self.stored, self.dropped = map(dict, self.backup)
        self.forget_in_model()
        for service in SERVICES:
            self.open(service)
        for journal, _ in self.journals:
            journal.try_out().result(10)  # behind the erasure of what the backup has of forgotten users

    @invariant()
    def both_services_and_the_update_know_what_is_stored(self):
        expected = [*self.stored.values()]
        for journal, listener in self.journals:
            journal.refresh()
            assert journal.content() == Content(expected, self.dropped, self.forgotten)
            assert sorted(listener.events) == sorted(expected)
            assert journal.fault is None
        table = JournalDataset(journal=self.address).load()
        assert table["user_id"].to_list() == [event.user_id for event in expected]

    def teardown(self):
        for journal, _ in self.journals:
            journal.close()
        self.remove_database()


class PostgresMachine(JournalMachine):
    address = None

    def make_database(self):
        self.execute("CREATE SCHEMA machine")

    def execute(self, *statements):
        import psycopg

        with psycopg.connect(self.address, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def copy_database(self):
        copies = [f"CREATE TABLE backup.{table} AS TABLE {table}" for table in TABLES]
        self.execute("DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup", *copies)

    def restore_database(self):
        self.execute(*(f"DELETE FROM {table}; INSERT INTO {table} TABLE backup.{table}" for table in TABLES))

    def remove_database(self):
        self.execute("DROP SCHEMA machine CASCADE")


SETTINGS = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_the_journal_keeps_its_promises():
    run_state_machine_as_test(JournalMachine, settings=SETTINGS)


def test_a_journal_in_postgresql_keeps_them_too(postgres, monkeypatch):
    """It takes over 5 s: each step of each example is a transaction of a server."""
    monkeypatch.setattr(PostgresMachine, "address", f"{postgres}?options=-csearch_path%3Dmachine")
    run_state_machine_as_test(PostgresMachine, settings=SETTINGS)
