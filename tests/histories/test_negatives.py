from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from random_logs import interaction_tables, log_of
from reclora_kedro.histories.negatives import NegativesConfig
from reclora_kedro.histories.taken_items import TakenItems
from reference_log import add_negatives, reference_log

DRAWN = ("matched", "uniform")
PAST = ("user_index", "item_index", "history_end")
SHARED = ["user_index", "timestamp", "event", "history_end", "split"]


def purchases(users=300, items=400, events=12_000, seed=0):
    """A log of likes alone: some items are popular, and items come and go."""
    random = np.random.default_rng(seed)
    moment = np.sort(random.integers(1, 100_000, events))
    popularity = 1 / np.arange(1, 101)
    era = (moment * (items - 100) // 100_000).astype(int)
    item = era + random.choice(100, events, p=popularity / popularity.sum())
    log = pl.DataFrame({"user_id": random.integers(users, size=events), "item_id": item, "timestamp": moment})
    log = log.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    return log.with_columns(rating=1.0, label=pl.lit(1, pl.Int8))


def with_negatives(log, kind, per_positive=1, seed=0):
    ids = {name: log.select(pl.col(name).unique().sort()) for name in ("item_id", "user_id")}
    log = reference_log(log, ids["item_id"], ids["user_id"], min_history=2)
    log = replace(log, samples=log.samples.with_columns(split=pl.lit("train")))
    return log.sequences, add_negatives(log, NegativesConfig(kind=kind, per_positive=per_positive), seed)


def taken(sequences):
    users = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    return set(zip(users.tolist(), sequences.item_index.tolist(), strict=True))


def past_of(log, user, end):
    return set(log.sequences.item_index[log.sequences.offsets[user] : end].tolist())


@given(interaction_tables())
def test_what_was_taken_before_is_in_the_history(interactions):
    log = log_of(interactions)
    expected = [item in past_of(log, user, end) for user, item, end in log.samples.select(*PAST).iter_rows()]
    assert TakenItems.from_sequences(log.sequences).before(log.samples).tolist() == expected


def test_samples_of_items_taken_before_are_left_out():
    log = purchases(events=300, items=120)
    twice = pl.concat([log, log.with_columns(timestamp=pl.col("timestamp") + 200_000)])
    _, samples = with_negatives(twice, "uniform")
    _, once = with_negatives(log, "uniform")
    assert (
        samples.filter(label=1)
        .drop("row", "event", "history_end")
        .equals(once.filter(label=1).drop("row", "event", "history_end"))
    )


@pytest.mark.parametrize("kind", DRAWN)
def test_each_stands_behind_its_positive_and_shares_all_but_item_and_label(kind):
    _, samples = with_negatives(purchases(), kind, per_positive=2)
    assert samples["row"].to_list() == list(range(samples.height))
    positives = samples[::3]
    assert positives["label"].sum() == positives.height == samples.height / 3
    for place in (1, 2):
        negatives = samples[place::3]
        assert negatives["label"].sum() == 0
        for name in SHARED:
            assert negatives[name].equals(positives[name])
    assert (samples[1::3]["item_index"] != samples[2::3]["item_index"]).all()


@given(interaction_tables(), st.sampled_from(DRAWN), st.integers(1, 3), st.integers(0, 3))
def test_no_user_ever_takes_a_negative_and_positives_stay_as_they_are(interactions, kind, per_positive, seed):
    log = log_of(interactions)
    config = NegativesConfig(kind=kind, per_positive=per_positive)
    samples = add_negatives(log, config, seed)
    events = taken(log.sequences)
    pairs = samples.select("user_index", "item_index").rows()
    of_log = pl.Series([pair in events for pair in pairs])
    new = [item not in past_of(log, user, end) for user, item, end in log.samples.select(*PAST).iter_rows()]
    assert samples.filter(of_log).drop("row").equals(log.samples.filter(new).drop("row"))
    assert samples.filter(~of_log)["label"].sum() == 0
    assert samples.schema == log.samples.schema
    assert samples.equals(add_negatives(log, config, seed))
    if kind == "uniform":
        for item, moment in samples.filter(~of_log).select("item_index", "timestamp").iter_rows():
            assert log.sequences.timestamp[log.sequences.item_index == item].min() < moment


@pytest.mark.parametrize("kind", DRAWN)
def test_popularity_and_freshness_tell_uniform_negatives_apart_but_not_matched_ones(kind):
    sequences, samples = with_negatives(purchases(), kind)
    told = []
    for item, moment in samples.select("item_index", "timestamp").iter_rows():
        before = sequences.timestamp[(sequences.item_index == item) & (sequences.timestamp < moment)]
        age = moment - sequences.timestamp[sequences.item_index == item].min()
        told.append([len(before), age, (before > moment - 5_000).sum()])
    for values in np.array(told).T:
        gap = abs(roc_auc_score(samples["label"], values) - 0.5)
        assert gap < 0.02 if kind == "matched" else gap > 0.08


def test_a_user_who_took_everything_gets_no_negatives():
    log = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 2, 2], "item_id": [1, 2, 3, 1, 2, 3, 4], "timestamp": range(1, 8)})
    _, samples = with_negatives(log.with_columns(rating=1.0, label=1), "matched", per_positive=2)
    assert samples.select("user_index", "item_index", "label").rows() == [(0, 2, 1), (0, 3, 0), (1, 2, 1), (1, 3, 1)]


@given(interaction_tables(), st.sampled_from(DRAWN), st.integers(0, 40))
def test_what_is_drawn_for_a_positive_does_not_depend_on_the_other_samples(interactions, kind, first):
    log = log_of(interactions)
    config = NegativesConfig(kind=kind, per_positive=2)
    some = log.samples[first:]
    everywhere = add_negatives(log, config, seed=0)
    assert (
        add_negatives(replace(log, samples=some), config, seed=0)
        .drop("row")
        .equals(everywhere.filter(pl.col("event").is_in(some["event"].implode())).drop("row"))
    )
