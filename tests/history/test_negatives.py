from dataclasses import replace
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from random_logs import ITEMS, USERS, interaction_tables, log_of
from reclora_kedro.history.checks import check_negatives
from reclora_kedro.history.config import HistoryConfig, NegativesConfig
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.history.taken_items import TakenItems
from reference_log import add_negatives, reference_log

DRAWN = ("matched", "uniform")
PAST = ("user_index", "item_index", "history_end")
GLOBAL_TIME = SplitConfig(kind="global_time", train=0.6, validation=0.2)
LAST_OUT = SplitConfig(kind="per_user_last_out", train=0.6, validation=0.2)
SHARED = ["user_index", "timestamp", "event", "history_end", "split"]


def purchases(users=300, items=400, events=12_000, seed=0):
    """A log of likes alone: some items are popular, and items come and go."""
    random = np.random.default_rng(seed)
    moment = np.sort(random.integers(1, 100_000, events))
    popularity = 1 / np.arange(10, 110)
    era = (moment * (items - 100) // 100_000).astype(int)
    item = era + random.choice(100, events, p=popularity / popularity.sum())
    log = pl.DataFrame({"user_id": random.integers(users, size=events), "item_id": item, "timestamp": moment})
    log = log.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    return log.with_columns(rating=1.0, label=pl.lit(1, pl.Int8))


def with_negatives(log, kind, per_positive=1, ties="strict"):
    ids = {name: log.select(pl.col(name).unique().sort()) for name in ("item_id", "user_id")}
    config = HistoryConfig.model_construct(
        seed=0,
        min_history=2,
        shared_clock=True,
        ties=ties,
        rating_levels=None,
        split=GLOBAL_TIME,
        negatives=NegativesConfig(kind=kind, per_positive=per_positive),
    )
    with patch("reclora_kedro.history.log_builder.require_training_samples"):  # where nothing new is taken later
        return build_log(log, ids["item_id"], ids["user_id"], config)


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
    samples = with_negatives(twice, "uniform").samples
    once = with_negatives(log, "uniform").samples
    columns = "row", "event", "history_end", "split"
    assert samples.filter(label=1).drop(columns).equals(once.filter(label=1).drop(columns))


@pytest.mark.parametrize("kind", DRAWN)
def test_each_stands_behind_its_positive_and_shares_all_but_item_and_label(kind):
    samples = with_negatives(purchases(), kind, per_positive=2).samples
    assert samples["row"].to_list() == list(range(samples.height))
    positives = samples[::3]
    assert positives["label"].sum() == positives.height == samples.height / 3
    for place in (1, 2):
        negatives = samples[place::3]
        assert negatives["label"].sum() == 0
        for name in SHARED:
            assert negatives[name].equals(positives[name])
    assert (samples[1::3]["item_index"] != samples[2::3]["item_index"]).all()


@given(interaction_tables(), st.sampled_from(DRAWN), st.integers(1, 3), st.sampled_from([GLOBAL_TIME, LAST_OUT]))
def test_no_user_takes_a_negative_until_its_split_ends_and_positives_stay_as_they_are(
    interactions, kind, per_positive, split
):
    log = reference_log(interactions, ITEMS, USERS, split=split)
    config = NegativesConfig(kind=kind, per_positive=per_positive)
    samples = add_negatives(log, config, seed=0)
    new = [item not in past_of(log, user, end) for user, item, end in log.samples.select(*PAST).iter_rows()]
    columns = list(log.samples.drop("row").columns)
    drawn = samples.join(log.samples, on=["user_index", "item_index", "timestamp", "label"], how="anti")
    assert samples.join(drawn, on="row", how="anti").select(columns).equals(log.samples.filter(new).select(columns))
    assert drawn["label"].sum() == 0
    for user, item, moment, own in drawn.select("user_index", "item_index", "timestamp", "split").iter_rows():
        until = log.samples.filter(user_index=user, split=own)["event"].max()
        assert item not in past_of(log, user, until + 1)
        if kind == "uniform":
            assert log.sequences.timestamp[log.sequences.item_index == item].min() < moment
        else:
            assert log.samples.filter(item_index=item, split=own, label=1).height
    assert samples.schema == log.samples.schema
    assert samples.equals(add_negatives(log, config, seed=0))


def again(log):
    """The log with each user's items once more, a while later: half of its events are no first ones."""
    return pl.concat([log, log.with_columns(pl.col("timestamp") + 9_000)]).sort("timestamp", "user_id", "item_id")


@pytest.mark.parametrize("log", [purchases(users=3_000), again(purchases(users=1_500, items=200, events=6_000))])
def test_time_and_counts_alone_tell_uniform_negatives_apart_but_not_matched_ones(log, caplog):
    records = check_negatives(with_negatives(log, "matched"), seed=0)
    assert max(record["auc"] for record in records if record["split"] == "train") < 0.52
    assert not [record["warning"] for record in records if record["warning"]]
    assert "tell drawn" not in caplog.text

    records = check_negatives(with_negatives(log, "uniform"), seed=0)
    assert min(record["auc"] for record in records[:2]) > 0.6
    warnings = [record["warning"] for record in records if record["warning"]]
    assert records[0]["warning"] == warnings[0]
    assert warnings == [record.message for record in caplog.records if "tell drawn" in record.message]


def test_the_numbers_are_those_of_plain_loops():
    likes = purchases(users=40, items=120, events=600).with_columns(pl.col("timestamp") * 30)  # over five weeks
    items, users = (likes.select(pl.col(name).unique().sort()) for name in ("item_id", "user_id"))
    log = reference_log(likes, items, users, split=GLOBAL_TIME)
    samples = add_negatives(log, NegativesConfig(kind="uniform", per_positive=1), seed=0)
    for record in check_negatives(replace(log, samples=samples), seed=0):
        rows = samples.filter(split=record["split"])
        values = []
        for item, moment in rows.select("item_index", "timestamp").iter_rows():
            before = [t for t in log.sequences.timestamp[log.sequences.item_index == item].tolist() if t < moment]
            recent = {"hour": 3_600, "7 days": 7 * 86_400, "earlier": moment}
            spans = [span for word, span in recent.items() if word in record["number"]]
            if "item's id" in record["number"]:
                values.append(item)
                continue
            gap = moment - max(before) if before else 10**9
            values.append(sum(t >= moment - spans[0] for t in before) if spans else gap)
        auc = roc_auc_score(rows["label"], values)
        assert record["rows"] == rows.height
        assert record["auc"] == pytest.approx(max(auc, 1 - auc))


@pytest.mark.parametrize("ties", ["strict", "order"])
def test_items_of_one_second_are_in_no_order_of_their_ids_but_in_that_of_the_log(ties):
    random = np.random.default_rng(0)
    baskets = [np.sort(random.choice(200, 8, replace=False))[::-1] for _ in range(1_000)]
    log = pl.DataFrame({"user_id": np.arange(1_000) // 5, "timestamp": 1 + np.arange(1_000), "item_id": baskets})
    log = log.explode("item_id").unique(["user_id", "item_id"], keep="first", maintain_order=True)
    sequences = with_negatives(log.with_columns(rating=1.0, label=1), "none", ties=ties).sequences
    together = np.diff(sequences.timestamp) == 0
    rises = (np.diff(sequences.item_index) > 0)[together].mean()
    assert rises == (0 if ties == "order" else pytest.approx(0.5, abs=0.03))


def test_an_order_of_ids_that_tells_negatives_apart_is_warned_of(caplog):
    log = with_negatives(purchases(), "matched")
    order = np.argsort(np.argsort(log.samples["label"].to_numpy(), kind="stable"))
    [record, *_] = [
        record
        for record in check_negatives(replace(log, samples=log.samples.with_columns(item_index=order)), seed=0)
        if record["number"] == "the place of the item's id in order"
    ]
    assert record["auc"] > 0.99
    assert record["warning"] in caplog.messages


@pytest.mark.parametrize("kind", DRAWN)
def test_having_been_a_training_negative_tells_nothing_of_a_test_row(kind):
    samples = with_negatives(purchases(users=200, items=100, events=6_000), kind).samples
    pairs = ["user_index", "item_index"]
    drawn = samples.filter(split="train", label=0).select(*pairs, drawn=1).unique()
    test = samples.filter(split="test").join(drawn, on=pairs, how="left")
    was_drawn = test["drawn"].is_not_null()
    assert was_drawn.mean() > 0.1
    assert roc_auc_score(test["label"], was_drawn) == pytest.approx(0.5, abs=0.03)


def test_a_user_who_took_everything_gets_no_negatives():
    likes = pl.DataFrame({"user_id": list("aaabbbb"), "item_id": [1, 2, 3, 1, 2, 3, 4], "timestamp": range(1, 8)})
    items, users = (likes.select(pl.col(name).unique().sort()) for name in ("item_id", "user_id"))
    log = reference_log(likes.with_columns(rating=1.0, label=1), items, users, min_history=2, split=LAST_OUT)
    samples = add_negatives(log, NegativesConfig(kind="matched", per_positive=2), seed=0)
    assert samples.select("user_index", "item_index", "label").rows() == [(0, 2, 1), (0, 3, 0), (1, 2, 1), (1, 3, 1)]


@given(interaction_tables(), st.sampled_from(DRAWN), st.integers(0, 40))
def test_what_is_drawn_for_a_positive_does_not_depend_on_the_other_samples(interactions, kind, first):
    log = reference_log(interactions, ITEMS, USERS, split=GLOBAL_TIME)
    config = NegativesConfig(kind=kind, per_positive=2)
    some = log.samples[first:]
    everywhere = add_negatives(log, config, seed=0)
    expected = everywhere.filter(pl.col("event").is_in(some["event"].implode())).drop("row")
    assert add_negatives(log, config, seed=0, samples=some).drop("row").equals(expected)
