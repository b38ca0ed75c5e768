"""Popularity: which users count for an item, and when."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import interaction_tables, log_of, logs
from reclora_kedro.candidates import popularity
from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.candidates.moments import best_items
from reclora_kedro.candidates.popularity import Likes, Popularity, PopularityConfig, PopularitySettings
from reference_log import reference_log

DAY = 86_400


def strangers(log, second=None):
    """The moment of a user without events, now or at a given second."""
    return pl.DataFrame({"user_index": [0], "history_end": log.sequences.starts[:1]}).with_columns(
        timestamp=pl.lit(log.last_second + 1 if second is None else second, dtype=pl.Int64)
    )


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 30)), max_size=30),
    st.none() | st.integers(1, 12),
)
def test_each_user_counts_once_in_a_window_that_ends_at_the_moment(likes, length):
    def users(item, now):
        first = -1 if length is None else now - length
        return len({user for user, of, second in likes if of == item and first <= second < now})

    in_order = sorted(likes, key=lambda like: (like[0], like[2]))
    columns, moments = np.array(in_order, dtype=np.int64).reshape(-1, 3).T, np.arange(45)
    expected = [[users(item, now) for item in range(3)] for now in moments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(popularity, "CHANGES_OF_MARK", 4)
        spans = Likes.from_events(*columns).spans(length)
        assert spans.counts(moments, 3).tolist() == expected
        assert [spans.counts(moments[now:], 3)[0].tolist() for now in moments] == expected  # from an earlier second on


@given(interaction_tables().map(log_of), st.sampled_from([None, 2, 50]), st.integers(0, 9), st.booleans())
def test_a_ranking_that_serves_all_users_of_a_second_is_that_of_the_scores(log, seconds, seed, repeat):
    known = np.random.default_rng(seed).random(len(log.sequences.item_index)) < 0.8
    training = Training(log, known)
    model = Popularity.fit(training, PopularitySettings(days=None if seconds is None else seconds / DAY))
    moments = training.moments(log.now(pl.DataFrame({"user_index": range(4)})), repeat=repeat)
    for most in (1, 7, 3):  # the ranking of seven serves for three
        found, expected = model.top(moments, most), best_items(model.scores(moments), moments, most)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_array_equal(found.scores, expected.scores)


@given(logs(), st.integers(0, 9))
def test_known_likes_before_a_moment_count_or_with_all_events_others_before_it_too(log, seed):
    """Without a window, all of them do; what a few late times may move is a window, see below."""
    known = np.random.default_rng(seed).random(len(log.sequences.item_index)) < 0.6
    training, events = Training(log, known), log.sequences
    moments = training.moments(log.samples)
    model = Popularity.fit(training, PopularitySettings())

    def users(counts, second):
        liked = counts & (events.label == 1) & (events.timestamp < second)
        return [len(set(training.user[liked & (events.item_index == item)])) for item in range(log.items.height)]

    assert model.scores(moments).tolist() == [users(known, second) for second in log.samples["timestamp"]]
    expected = [users(np.ones_like(known), second) for second in log.samples["timestamp"]]
    assert model.as_of_each_moment(training).scores(moments).tolist() == expected


def log_of_shops(later=(), angry=0, loyal=0):
    """Items of 200 users whose tastes change every 30 days, with further events.

    Args:
        later: seconds of likes of item 0 after all others.
        angry, loyal: numbers of events with one star or five of one user, all of item 1, on the last day.
    """
    random, events = np.random.default_rng(0), 2_000
    second = np.sort(random.integers(0, 300 * DAY, events))
    item = second // (30 * DAY) + random.choice(4, events, p=[0.4, 0.3, 0.2, 0.1])
    rows = list(zip(random.integers(3, 200, events), item, [5.0] * events, second, strict=True))
    rows += [(0, 0, 5.0, 300 * DAY + each) for each in later]
    rows += [(1, 1, 1.0, 299 * DAY + each) for each in range(angry)]
    rows += [(2, 1, 5.0, 299 * DAY + each) for each in range(loyal)]
    interactions = pl.DataFrame(rows, ["user_id", "item_id", "rating", "timestamp"], orient="row")
    interactions = interactions.with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame({"item_id": range(15), "title": [f"Film {i}" for i in range(15)]})
    return reference_log(interactions, items, pl.DataFrame({"user_id": range(200)}), min_history=1)


def first_items(log, days):
    training = Training.from_log(log)
    model = Popularity.fit(training, PopularitySettings(days=days))
    return model.top(training.moments(strangers(log)), 10).items[0].tolist()


@pytest.mark.parametrize("days", [None, 7, 30])
@pytest.mark.parametrize(
    "changes",
    [{"later": [5 * 365 * DAY]}, {"later": [365 * DAY, 400 * DAY]}, {"angry": 700}, {"loyal": 700}],
    ids=["a time in the future", "two of them", "one star again and again", "five stars again and again"],
)
def test_one_user_does_not_move_what_strangers_get(days, changes):
    assert first_items(log_of_shops(**changes), days)[:3] == first_items(log_of_shops(), days)[:3]


def test_without_a_shared_clock_an_item_is_as_popular_at_every_moment(log):
    without = replace(log, shared_clock=False)
    training = Training.from_split(without)
    model = Popularity.fit(training, PopularitySettings(days=1)).as_of_each_moment(training)
    frames = [strangers(without, second) for second in (0, 5, 10**9)]
    scores = [model.scores(training.moments(frame)).tolist() for frame in frames]
    assert scores[0] == scores[1] == scores[2]
    is_liked = training.is_training_event & (log.sequences.label == 1)
    assert scores[0][0] == np.bincount(log.sequences.item_index[is_liked], minlength=log.items.height).tolist()
    assert Popularity.choices(PopularityConfig(days=(7,)), training) == []


def test_the_window_that_ranks_validation_likes_best_is_taken():
    """What is new is taken alone: events of long ago mislead."""
    events = 400
    item = (np.arange(events) // 20 + np.tile([0, 0, 0, 1], events // 4)) % 20
    interactions = pl.DataFrame(
        {
            "user_id": np.random.default_rng(0).permutation(np.arange(events) % 100),
            "item_id": item,
            "rating": 5.0,
            "timestamp": np.arange(events) * DAY,
            "label": pl.Series(np.ones(events), dtype=pl.Int8),
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    items = pl.DataFrame({"item_id": range(20), "title": [f"Film {i}" for i in range(20)]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(100)}), min_history=1)
    training = Training.from_log(log)
    likes = log.samples.filter(pl.col("timestamp") >= 250 * DAY)
    config = PopularityConfig(days=(10, 10_000))
    assert choose_settings(Popularity, training, config, likes) == PopularitySettings(days=10)
    assert choose_settings(Popularity, training, PopularityConfig(days=()), likes) == PopularitySettings()


def test_a_window_is_chosen_by_what_it_has_counted_until_each_like_where_models_are_asked_live():
    log = log_of_shops()
    training = Training(log, log.sequences.timestamp < 150 * DAY)
    likes, config = log.samples.filter(pl.col("timestamp") >= 270 * DAY), PopularityConfig(days=(20,))
    chosen = {live: choose_settings(Popularity, training, config, likes, live=live).days for live in (True, False)}
    assert chosen == {True: 20, False: None}  # of what was taken until day 150, all is old
