"""Popularity: which events count, and when."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given

from random_logs import interaction_tables, log_of
from reclora_kedro.baselines.popularity import Popularity
from reclora_kedro.histories.sequences import user_of_events


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
