"""The log with the journal's events in their places is the log that would have been built of all of them."""

from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_service import BEGIN, EVENTS_PER_USER, ITEMS, USERS, ingestion, small_log, small_tables
from reclora_kedro.candidates import item_knn
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.history import rating_statistics, sequences
from reclora_kedro.history.rating_statistics import RatingStatistics
from reclora_kedro.history.sequences import places_of
from reclora_kedro.serving import live_log as live_log_module
from reclora_kedro.serving.journal import Changes, Content, UserContent
from reclora_kedro.serving.journal_tables import Event
from reclora_kedro.serving.live_log import SPARE_USERS, LiveLog

KEY = ["user_id", "item_id", "timestamp"]
TAKEN = [tuple(row) for row in small_tables()[0].select(KEY).iter_rows()]
LAST = BEGIN + USERS * EVENTS_PER_USER + 20
PLACES = st.one_of(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(BEGIN, LAST)),
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(LAST, LAST + 1)),
    st.sampled_from(TAKEN),
)
BATCHES = st.lists(
    st.lists(st.builds(lambda place, rating: (*place, float(rating)), PLACES, st.integers(1, 5)), max_size=6),
    max_size=4,
)
PAIRS = pl.DataFrame({"user_index": np.repeat(np.arange(USERS), ITEMS), "item_index": np.tile(np.arange(ITEMS), USERS)})

base_log = cache(small_log)


def live(events=(), dropped=None, **changes):
    return LiveLog(base_log(), ingestion(**changes), Content([*events], dropped or {}))


def as_events(rows):
    return [
        Event(str(place), str(user), str(item), rating, second)
        for place, (user, item, second, rating) in enumerate(rows)
    ]


def rebuilt(rows, duplicates="highest_rating"):
    """The log of a model's tables and further rows by plain loops, in the order of arrival within a second."""
    schema = dict.fromkeys(KEY, pl.Int64) | {"rating": pl.Float64}
    new = pl.DataFrame(rows, schema, orient="row").with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    best = pl.col("rating") if duplicates == "lowest_rating" else -pl.col("rating")
    every = pl.concat([small_tables()[0], new.select(small_tables()[0].columns)]).with_row_index("row")
    return small_log(every.sort(*KEY, best, "row").unique(KEY, keep="first").sort("row").drop("row"), ties="order")


def nearest_items(log):
    return ItemKnn.fit(Training.from_log(log), ItemKnnSettings())


@given(
    BATCHES,
    st.sampled_from(["highest_rating", "lowest_rating"]),
    st.sampled_from([{}, {"delay": 9.5}, {"until": BEGIN + 99}]),
)
def test_what_is_read_of_events_in_any_order_is_that_of_a_log_of_all_of_them(batches, duplicates, known):
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (sequences, "LEAST_RATIO", 3),
            (item_knn, "MOST_CHANGES", 6),
            (item_knn, "EVENTS", 8),
            (item_knn, "NEAREST", 5),
            (live_log_module, "SPARE_EVENTS", 1),
        ):
            patch.setattr(module, name, value)
        live_log = live(duplicates=duplicates)
        log = live_log.current().log
        statistics, near = RatingStatistics(log, **known, scale=(1, 5)), nearest_items(log)
        for batch in batches:
            near.nearest(0)
            live_log.apply(Changes(as_events(batch)))
            current = live_log.current()
            log = current.log
            statistics, near = statistics.with_log(log), near.with_events(log, current.changed)
        expected = rebuilt([row for batch in batches for row in batch], duplicates)
        anew = nearest_items(expected)
        for item in range(ITEMS):
            np.testing.assert_array_equal(near.nearest(item), anew.nearest(item))
    events = places_of(log.sequences.starts, log.sequences.ends)
    for name, column in expected.sequences.columns.items():
        np.testing.assert_array_equal(log.sequences.columns[name][events], column, name)
    np.testing.assert_array_equal(
        (log.sequences.ends - log.sequences.starts)[:USERS], np.diff(expected.sequences.offsets)
    )
    now = expected.now(PAIRS)
    assert log.now(PAIRS)["timestamp"].equals(now["timestamp"])
    assert statistics.compute(log.now(PAIRS)).equals(RatingStatistics(expected, **known, scale=(1, 5)).compute(now))


def by_id(log, users):
    """The events of each user in each column."""
    runs = {user: slice(log.sequences.starts[index], log.sequences.ends[index]) for user, index in users.items()}
    return {user: [column[run].tolist() for column in log.sequences.columns.values()] for user, run in runs.items()}


CHANGES = st.lists(
    st.one_of(
        st.lists(st.builds(lambda place, rating: (*place, float(rating)), PLACES, st.integers(1, 5)), max_size=6),
        st.tuples(st.sampled_from([0, 1, 2, 777]), st.sampled_from([None, BEGIN + 80, LAST + 1]), st.integers(0, 3)),
    ),
    max_size=6,
)


@settings(max_examples=12, deadline=None)
@given(CHANGES, st.sampled_from([1, 3, 1000]))
def test_a_log_with_changed_users_is_one_of_what_the_journal_has_now(changes, least_ratio):
    with pytest.MonkeyPatch.context() as patch:
        for module in (sequences, live_log_module):
            patch.setattr(module, "LEAST_RATIO", least_ratio)
        patch.setattr(live_log_module, "SPARE_EVENTS", 1)
        patch.setattr(rating_statistics, "RECENT", 2)
        live_log, events, dropped = live(), [], {}
        log = live_log.current().log
        statistics, near = RatingStatistics(log, scale=(1, 5)), nearest_items(log)
        for number, change in enumerate([[(777, 3, BEGIN, 5.0), (777, 4, BEGIN + 1, 2.0)], *changes]):
            if isinstance(change, list):
                new = [each._replace(event_id=f"{number}.{each.event_id}") for each in as_events(change)]
                events += new
                live_log.apply(Changes(new))
            else:
                user, until, kept = str(change[0]), *change[1:]
                own = [each for each in events if each.user_id == user]
                own = own[kept:] + [each._replace(rating=6 - each.rating) for each in own[:kept]] if not until else []
                events = [each for each in events if each.user_id != user] + own
                dropped |= {user: until} if until else {}
                live_log.apply(Changes([], {user: UserContent(own, dropped.get(user))}))
            near.nearest(0)
            current = live_log.current()
            statistics, near = statistics.with_log(current.log), near.with_events(current.log, current.changed)
            anew = live(events, dropped).current()
            assert by_id(current.log, current.users) == by_id(anew.log, anew.users)
            assert current.log.last_second == anew.log.last_second
            now = anew.log.now(PAIRS)
            expected = RatingStatistics(anew.log, scale=(1, 5)).compute(now)
            assert statistics.compute(current.log.now(PAIRS)).equals(expected)
        for item in range(ITEMS):
            np.testing.assert_array_equal(near.nearest(item), nearest_items(anew.log).nearest(item))


@settings(max_examples=10, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=20))
def test_a_visitors_events_count_as_those_of_a_new_user(places):
    rows = [(777, item, second, 5.0 - item % 3) for _, item, second in places]
    live_log, stored = live(), live(as_events(rows))
    log, visitor = live_log.with_visitor(live_log.current().log, as_events(rows))
    values = []
    for each, user in ((log, visitor), (stored.current().log, USERS)):
        pairs = pl.DataFrame({"user_index": [user] * ITEMS, "item_index": np.arange(ITEMS)})
        values.append(RatingStatistics(each).compute(each.now(pairs)))
    assert values[0].equals(values[1])


def test_new_users_are_appended_and_known_indices_stay():
    live_log = live([Event(str(n), str(100 + n), "3", 5.0, BEGIN) for n in range(300)])
    live_log.apply(Changes([Event("again", "100", "4", 5.0, BEGIN + 1), Event("waits", "100", "unknown", 5.0, BEGIN)]))
    live_log.apply(
        Changes([Event(user, user, "4", 5.0, BEGIN) for user in ("ann", "--5", "²", "007")])
    )  # of another log
    log, users, *_ = live_log.current()
    assert [users[str(user)] for user in range(USERS)] == list(range(USERS))
    assert users["100"] == USERS
    assert log.users["user_id"][users["399"]] == 399
    assert (log.sequences.ends - log.sequences.starts)[users["100"]] == 2
    assert len(users) == USERS + 300 < log.users.height


def test_dropped_users_have_no_events_until_then():
    event = Event("later", "3", "5", 4.0, BEGIN + 500)
    log, users, *_ = live([event], {"3": BEGIN + 400}).current()
    starts, ends = log.sequences.starts, log.sequences.ends
    assert log.sequences.timestamp[starts[users["3"]] : ends[users["3"]]].tolist() == [BEGIN + 500]
    assert (ends - starts).sum() == (USERS - 1) * EVENTS_PER_USER + 1


def test_an_event_of_the_second_of_a_drop_is_dropped():
    log, users, *_ = live().current()
    [*_, last] = log.sequences.timestamp[log.sequences.starts[users["3"]] : log.sequences.ends[users["3"]]].tolist()
    log, users, *_ = live(dropped={"3": last}).current()
    assert log.sequences.starts[users["3"]] == log.sequences.ends[users["3"]]


def test_users_who_fill_the_spare_rows_leave_one_for_a_visitor():
    live_log = live([Event(str(n), str(100 + n), "3", 5.0, BEGIN) for n in range(SPARE_USERS)])
    log, users, *_ = live_log.current()
    _, visitor = live_log.with_visitor(log, [])
    assert len(users) == USERS + SPARE_USERS
    assert visitor not in {users[str(100 + n)] for n in range(SPARE_USERS)}


def test_a_visitors_events_wait_for_those_that_are_being_added():
    live_log = live()
    log = live_log.current().log
    with ThreadPoolExecutor(1) as pool:
        with live_log._lock:
            visit = pool.submit(live_log.with_visitor, log, [Event("", "", "3", 5.0, BEGIN)])
            assert not wait([visit], timeout=0.2).done
        visit.result(timeout=60)


def test_a_rating_is_a_like_where_ingestion_takes_it_for_one():
    log, users, *_ = live([Event("a", "1", "3", 3.3, LAST + 9)], label_threshold=3.3).current()
    assert log.sequences.label[log.sequences.ends[users["1"]] - 1] == 1


def test_visitors_take_room_and_more_is_made_in_time(monkeypatch):
    monkeypatch.setattr(live_log_module, "SPARE_EVENTS", 20)
    live_log = live()
    first, visits = live_log.current(), 0
    while live_log.current() is first:
        live_log.with_visitor(first.log, [Event("", "", str(item), 5.0, BEGIN) for item in range(5)])
        visits += 1
    roomy, taken, (before, after) = (
        live_log.current(),
        first.log.sequences.room[0],
        (first.log, live_log.current().log),
    )
    assert (visits, roomy.before is before, len(roomy.changed)) == (11, True, 0)
    assert taken - visits * 5 == after.sequences.room[0] == USERS * EVENTS_PER_USER
    np.testing.assert_array_equal(after.sequences.runs[:, :USERS], before.sequences.runs[:, :USERS])


@pytest.mark.parametrize("history", [0, 3])
def test_a_visitor_leaves_nothing_behind(history):
    live_log = live()
    log = live_log.current().log
    events = [Event("", "", str(item), 5.0, BEGIN) for item in range(history)]
    visited, visitor = live_log.with_visitor(log, events)
    assert (visited.sequences.ends - visited.sequences.starts)[visitor] == history
    assert live_log.current().log is log


def test_events_that_an_update_keeps_out_are_not_read():
    events = [Event(f"e{second}", "1", "3", 5.0, LAST + second) for second in (1, 2)]
    log = LiveLog(base_log(), ingestion(), Content(events[:1], {}), frozenset({("1", "3", LAST + 1)}))
    log.apply(Changes(events[1:]))
    own = log.current().log.sequences
    assert (own.ends - own.starts)[1] == EVENTS_PER_USER + 1
