"""Popularity: which events count, and when."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig, scorer

from random_logs import interaction_tables, log_of
from reclora_kedro.history.sequences import user_of_events
from reference_log import reference_log


def split(log):
    """The log, of whose samples the earlier half trains."""
    test = pl.col("row") >= log.samples.height // 2
    return replace(
        log, samples=log.samples.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))
    )


def split_logs():
    """Logs in which users take an item again, and several in a second."""
    return interaction_tables().map(log_of).map(split)


@given(split_logs())
def test_events_of_training_are_those_until_its_end_or_other_samples_of_the_user(log):
    known, training = log.training_events(), log.samples.filter(split="train")
    ends = dict(log.samples.filter(split="test").group_by("user_index").agg(pl.col("history_end").min()).iter_rows())
    user = user_of_events(log.sequences.offsets)
    assert known[training["event"]].all()
    assert not known[log.samples.filter(split="test")["event"]].any()
    sampled = set(log.samples["event"])
    for event, second in enumerate(log.sequences.timestamp):
        if event not in sampled:
            until = ends.get(user[event], len(user))
            assert known[event] == (training.height > 0 and second <= training["timestamp"].max() and event < until)


@given(split_logs())
def test_popularity_counts_training_events_and_earlier_ones(log):
    training = set(np.flatnonzero(log.training_events()))
    pairs = log.samples.select("user_index", "item_index", "history_end", "timestamp")
    events = list(enumerate(zip(log.sequences.item_index, log.sequences.timestamp, strict=True)))
    expected = [
        sum(item == target and (event in training or second < moment) for event, (item, second) in events)
        for target, moment in pairs.select("item_index", "timestamp").iter_rows()
    ]
    assert Popularity(log).score(pairs).tolist() == expected


def test_the_information_of_an_item_is_that_of_its_share_of_training_events(log):
    information = Popularity(log).information()
    counts = np.bincount(log.sequences.item_index[log.training_events()], minlength=log.items.height)
    assert np.sum(2.0**-information) == pytest.approx(1)
    assert (np.argsort(-information, kind="stable") == np.argsort(counts, kind="stable")).all()


def test_the_window_that_ranks_validation_likes_best_is_taken(log, caplog):
    """Only what is new is taken: events of long ago mislead."""
    events = 400
    item = (np.arange(events) // 20 + np.tile([0, 0, 0, 1], events // 4)) % 20
    interactions = pl.DataFrame(
        {
            "user_id": np.random.default_rng(0).permutation(np.arange(events) % 100),
            "item_id": item,
            "rating": 5.0,
            "timestamp": np.arange(events) * 86_400,
            "label": pl.Series(np.ones(events), dtype=pl.Int8),
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    items = pl.DataFrame({"item_id": range(20), "title": [f"Film {i}" for i in range(20)]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(100)}), min_history=1)
    second = pl.col("timestamp") // 86_400
    split = pl.when(second >= 350).then(pl.lit("test")).when(second >= 250).then(pl.lit("validation"))
    log = replace(log, samples=log.samples.with_columns(split=split.otherwise(pl.lit("train"))))
    caplog.set_level("INFO")
    settings = PopularityConfig(days=(10, 10_000), validation_likes=500, seed=0)
    test = log.samples.filter(split="test")
    assert scorer(log, settings)(test).tolist() == Popularity(log, 10).score(test).tolist()
    assert "of the last 10 days" in caplog.text
    of_ten_days = [
        np.sum(
            (log.sequences.item_index == item)
            & (log.sequences.timestamp < now)
            & (log.sequences.timestamp >= now - 864_000)
        )
        for item, now in test.select("item_index", "timestamp").iter_rows()
    ]
    scores = Popularity(log, 10).score(test)
    assert np.floor(scores).tolist() == of_ten_days
    after_all = test.with_columns(timestamp=pl.col("timestamp").max() + 365 * 86_400)
    the_next_second = test.with_columns(timestamp=pl.col("timestamp").max() + 1)
    assert Popularity(log, 10).score(after_all).tolist() == Popularity(log, 10).score(the_next_second).tolist()


def test_of_items_with_equally_many_events_in_a_window_those_with_more_before_it_come_first(log):
    moment = log.samples[-1:].select("user_index", "history_end", "timestamp")
    pairs = moment.join(pl.DataFrame({"item_index": np.arange(log.items.height)}), how="cross")
    now, item, second = moment["timestamp"].item(), log.sequences.item_index, log.sequences.timestamp
    days = 20 / 86_400
    of_all, of_window = (
        np.bincount(item[counted], minlength=log.items.height)
        for counted in (second < now, (second < now) & (second >= now - 20))
    )
    order = np.argsort(-Popularity(log, days).score(pairs), kind="stable")
    assert order.tolist() == np.lexsort((-of_all, -of_window)).tolist()
    assert 0 < np.count_nonzero(of_window) < np.count_nonzero(of_all)
