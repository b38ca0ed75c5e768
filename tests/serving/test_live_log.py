"""The log with the journal's events in their places is the log that would have been built of all of them."""

from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_service import BEGIN, EVENTS_PER_USER, ITEMS, USERS, ingestion, small_log, small_tables
from reclora_kedro.serving.journal import Content, Event
from reclora_kedro.serving.live_log import LiveLog

EVENTS = st.builds(
    Event,
    st.uuids().map(str),
    st.integers(0, USERS - 1).map(str),
    st.integers(0, ITEMS - 1).map(str),
    st.integers(1, 5).map(float),
    st.integers(BEGIN, BEGIN + USERS * EVENTS_PER_USER + 20),
)


champion_log = cache(small_log)


def live(events=(), dropped=None):
    return LiveLog(champion_log(), ingestion(), Content([*events], dropped or {}))


def sequences_of(live_log, users):
    log = live_log.current().log
    events = log.sequences.offsets[users]
    return {name: column[: events if name != "offsets" else users + 1] for name, column in vars(log.sequences).items()}


@settings(max_examples=12)
@given(st.lists(EVENTS, max_size=12), st.integers(0, 12))
def test_events_stand_where_a_log_of_all_of_them_has_them(events, first):
    live_log = live(events[:first])
    live_log.current()
    live_log.apply(events[first:])
    interactions = small_tables()[0]
    if events:
        rows = {
            "user_id": [int(event.user_id) for event in events],
            "item_id": [int(event.item_id) for event in events],
            "rating": [event.rating for event in events],
            "timestamp": [event.timestamp for event in events],
        }
        new = pl.DataFrame(rows).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
        key = ["user_id", "item_id", "timestamp"]
        interactions = pl.concat([interactions, new]).sort(*key, -pl.col("rating")).unique(key, keep="first")
    expected = small_log(interactions).sequences
    for name, column in sequences_of(live_log, USERS).items():
        np.testing.assert_array_equal(column, getattr(expected, name), err_msg=name)


def test_new_users_are_appended_and_known_indices_stay():
    live_log = live([Event(str(n), str(100 + n), "3", 5.0, BEGIN) for n in range(300)])
    live_log.apply([Event("again", "100", "4", 5.0, BEGIN + 1), Event("waits", "100", "unknown", 5.0, BEGIN)])
    log, users = live_log.current()
    assert [users[str(user)] for user in range(USERS)] == list(range(USERS))
    assert users["100"] == USERS
    assert log.users["user_id"][users["399"]] == 399
    assert np.diff(log.sequences.offsets)[users["100"]] == 2
    assert len(users) == USERS + 300 < log.users.height


def test_dropped_users_have_no_events_until_then():
    event = Event("later", "3", "5", 4.0, BEGIN + 500)
    log, users = live([event], {"3": BEGIN + 400}).current()
    first, end = log.sequences.offsets[users["3"] : users["3"] + 2]
    assert log.sequences.timestamp[first:end].tolist() == [BEGIN + 500]
    assert log.sequences.offsets[USERS] == (USERS - 1) * EVENTS_PER_USER + 1


@pytest.mark.parametrize("history", [0, 3])
def test_a_visitor_leaves_nothing_behind(history):
    live_log = live()
    log, _ = live_log.current()
    events = [Event("", "", str(item), 5.0, BEGIN) for item in range(history)]
    visited, visitor = live_log.with_visitor(log, events)
    assert np.diff(visited.sequences.offsets)[visitor] == history
    assert live_log.current().log is log
