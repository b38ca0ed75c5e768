import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reclora_kedro.baselines.linear import LinearConfig
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig
from reclora_kedro.recommendation.sources import source_scorers

from live_service import NOT_TRIED, block
from random_logs import interaction_tables, log_of
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.lens.states import lens_states
from reclora_kedro.recommendation import item_ranks
from reclora_kedro.recommendation.config import RankingConfig
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.item_ranks import (
    NO_ITEM,
    candidate_items,
    draw_positives,
    rank_by,
    rank_positives,
)
from reclora_kedro.recommendation.second_stage import SecondStage

BOOTSTRAP = Bootstrap(confidence=0.95, samples=100, seed=0)
SETTINGS = {
    "users": None,
    "rows": None,
    "validation_likes": None,
    "candidates": "full",
    "sampled": 3,
    "cutoffs": (1, 3),
    "variant": None,
    "shortlist": 4,
    "lens": True,
    "retriever": False,
    "baselines": (),
    "baseline": None,
    "among_first": (2,),
    "seed": 0,
}
BASELINES = {
    "neighbours": ItemNeighboursConfig(
        events=5, nearest=100, recency=0.8, popularity_power=0.5, text_weight=1.0, **NOT_TRIED
    ),
    "linear": LinearConfig.model_validate(block("recommendation", "linear")),
    "popularity": PopularityConfig(days=(), validation_likes=1, seed=0),
}
SOURCES = ["popularity", "neighbours", "linear", "fusion", "ranker"]
MODELS = [*SOURCES, "lens", *(f"{source}_lens" for source in SOURCES)]


def config(**changes):
    return RankingConfig(**SETTINGS | changes)


def positives(log, users=None, rows=None):
    return draw_positives(log, "test", users, rows, seed=0)


def ranks_by(scorer, log, kind="full", sampled=3):
    """Ranks of all likes by one model, ``lens``."""
    return rank_by({"lens": scorer}, log, positives(log), 4, 0, sampled if kind == "sampled" else None)


def split(log):
    """The log, of whose samples the earlier half trains."""
    test = pl.col("row") >= log.samples.height // 2
    return replace(
        log, samples=log.samples.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))
    )


@pytest.fixture
def log(log):
    """Each event has a second of its own."""
    return split(log)


def split_logs():
    """Logs in which users take an item again, and several in a second."""
    return interaction_tables().map(log_of).map(split).filter(lambda log: positives(log).height > 0)


def metrics(ranks, log, k=3):
    model, information = ranks["model"][0], Popularity(log).information()
    [record] = compute_ranking_metrics(ranks, [model], information, (k,), BOOTSTRAP)
    return record


def past_of(log, user, end):
    return set(log.sequences.item_index[log.sequences.offsets[user] : end].tolist())


def hashed(pairs):
    """A score of a pair that many pairs share."""
    return (pairs["item_index"] * 7 + pairs["user_index"] * 3 + pairs["history_end"] * 5).to_numpy() % 4


@given(split_logs(), st.sampled_from(["full", "sampled"]), st.integers(1, 6))
def test_candidates_are_unseen_items_and_the_target_each_once(log, kind, sampled):
    likes = positives(log)
    candidates = candidate_items(log, likes, 0, sampled if kind == "sampled" else None)
    for own, row in zip(candidates, likes.iter_rows(named=True), strict=True):
        items = own[own != NO_ITEM].tolist()
        past = past_of(log, row["user_index"], row["history_end"])
        assert len(set(items)) == len(items)
        assert row["item_index"] in items
        assert not past & set(items)
        unseen = log.items.height - len(past | {row["item_index"]})
        assert len(items) == 1 + (unseen if kind == "full" else min(sampled, unseen))


@given(split_logs(), st.integers(4, 9))
def test_a_sample_of_all_is_full(log, sampled):
    full, all_sampled = (ranks_by(hashed, log, kind, sampled) for kind in ("full", "sampled"))
    assert full.drop("top_items").equals(all_sampled.drop("top_items"))


@given(split_logs(), st.sampled_from(["full", "sampled"]))
def test_ranks_are_the_same_by_any_rising_function_of_the_scores(log, kind):
    def transformed(pairs):
        return np.exp(3.0 * hashed(pairs)) - 50

    one, other = (ranks_by(scorer, log, kind) for scorer in (hashed, transformed))
    assert one.equals(other)


@given(split_logs())
def test_ranks_are_counts_of_the_other_candidates(log):
    ranks = ranks_by(hashed, log)
    for row in ranks.iter_rows(named=True):
        past = past_of(log, row["user_index"], row["history_end"])
        items = [item for item in range(log.items.height) if item not in past]
        scores = hashed(
            pl.DataFrame({"item_index": items}).with_columns(
                **{name: pl.lit(row[name]) for name in ("user_index", "history_end")}
            )
        )
        own = scores[items.index(row["item_index"])]
        assert row["better"] == (scores > own).sum()
        assert row["ties"] == (scores == own).sum() - 1
        assert row["candidates"] == len(items)
        scores_of = dict(zip(items, scores, strict=True))
        shown = [scores_of[item] for item in row["top_items"]]
        assert shown == sorted(scores, reverse=True)[:4]


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_perfect_scorer_has_metrics_of_one(log, kind):
    taken = dict(log.samples.select("timestamp", "item_index").iter_rows())

    def perfect(pairs):
        return np.array([taken[second] == item for second, item in pairs.select("timestamp", "item_index").iter_rows()])

    record = metrics(ranks_by(perfect, log, kind), log)
    assert record["hit_rate"] == record["ndcg"] == record["mrr"] == 1


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_constant_scorer_gains_what_chance_does(log, kind):
    ranks = ranks_by(lambda pairs: np.zeros(pairs.height), log, kind)
    record = metrics(ranks, log)
    assert record["hit_rate"] == pytest.approx((3 / ranks["candidates"]).mean())
    assert ranks["top_items"].list.len().to_list() == [4] * ranks.height


@given(interaction_tables().map(log_of).map(split))
def test_what_a_user_took_before_is_not_ranked(log):
    """It would be the only candidate of the user's history."""
    liked = log.samples.filter(split="test", label=1)
    new = [
        row["row"]
        for row in liked.iter_rows(named=True)
        if row["item_index"] not in past_of(log, row["user_index"], row["history_end"])
    ]
    assert positives(log)["row"].to_list() == new


def test_ranks_by_the_lens_are_those_of_its_logits_at_the_likes_own_moment(lens, log):
    ranks = rank_positives(log, config(), BASELINES, lens)[0]
    assert ranks["model"].unique(maintain_order=True).to_list() == MODELS
    for row in ranks.filter(model="lens").iter_rows(named=True):
        past = past_of(log, row["user_index"], row["history_end"])
        items = [item for item in range(log.items.height) if item not in past]
        pairs = pl.DataFrame({"item_index": items}).with_columns(
            **{name: pl.lit(row[name]) for name in ("user_index", "history_end", "timestamp")}
        )
        logits = lens_states(lens, log, pairs.with_row_index("row"))["logit"].numpy()
        assert row["better"] == (logits > logits[items.index(row["item_index"])]).sum()
        assert row["top_items"] == [items[place] for place in np.argsort(-logits)[:4]]


def test_without_a_lens_the_others_rank_as_they_do_beside_it(lens, log):
    whole = rank_positives(log, config(), BASELINES, lens)[0]
    assert rank_positives(log, config(), BASELINES)[0].equals(whole.filter(pl.col("model").is_in(MODELS[:5])))


def test_the_lens_orders_the_shortlist_of_the_neighbours(lens, log):
    ranks = rank_positives(log, config(), BASELINES, lens)[0]
    by_model = {model: ranks.filter(model=model) for model in MODELS}
    near, twice = by_model["neighbours"], by_model["neighbours_lens"]
    for first, whole, second in zip(
        *(by_model[name].iter_rows(named=True) for name in ("neighbours", "lens", "neighbours_lens")), strict=True
    ):
        pairs = pl.DataFrame({"item_index": first["top_items"]}).with_columns(
            **{name: pl.lit(first[name]) for name in ("user_index", "history_end", "timestamp")}
        )
        logits = lens_states(lens, log, pairs.with_row_index("row"))["logit"].numpy()
        assert second["top_items"] == [first["top_items"][place] for place in np.argsort(-logits)]
        assert whole["candidates"] == second["candidates"]
    assert near["row"].equals(twice["row"])
    behind = (near["better"] >= 4).to_numpy()
    assert near.filter(behind)["better"].equals(twice.filter(behind)["better"])


def test_the_time_that_a_ranking_takes_is_estimated_before_it_starts(log, caplog):
    likes, logged = positives(log).height, []

    def scorer(pairs):
        logged.append(len(messages()))
        return hashed(pairs)

    def messages():
        return [message for message in caplog.messages if message.startswith("Ranks")]

    with caplog.at_level("INFO", "reclora_kedro"):
        ranks = ranks_by(scorer, log)
    [message] = messages()
    rows = likes * ranks["candidates"][0]
    assert re.fullmatch(
        rf"Ranks {likes} likes, .*: {rows:,} rows per model, about \d+ seconds by the first like\.", message
    )
    assert logged[:2] == [0, 1]


def test_no_scorer_sees_more_than_what_was_before_the_like(log):
    seen = []
    ranks_by(lambda pairs: seen.append(pairs) or np.zeros(pairs.height), log)
    moments = pl.concat(seen).select("user_index", "history_end", "timestamp").unique()
    assert moments.join(log.samples.filter(split="test"), on=moments.columns, how="anti").is_empty()
    for user, end, second in moments.iter_rows():
        assert (log.sequences.timestamp[log.sequences.offsets[user] : end] < second).all()


@given(split_logs())
def test_what_likes_of_one_moment_have_in_common_is_scored_once(log):
    seen = []
    ranks_by(lambda pairs: seen.append(pairs) or np.zeros(pairs.height), log)
    assert not pl.concat(seen).is_duplicated().any()


def test_what_a_fusion_reads_is_scored_once(log):
    seen = []
    scorers = source_scorers(
        lambda pairs: np.zeros(pairs.height),
        lambda pairs: seen.append(pairs) or np.arange(pairs.height, dtype=float),
        None,
        None,
    )
    reader, by_neighbours = (
        CandidateReader(log, ItemFacts(log), scorers, None),
        SecondStage(weights={"neighbours_rank": 1}),
    )
    ranks = rank_by(scorers | by_neighbours.scorers(reader), log, positives(log), 4, 0)
    assert not pl.concat(seen).is_duplicated().any()
    assert ranks.filter(model="fusion").drop("model").equals(ranks.filter(model="neighbours").drop("model"))


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_ranks_are_the_same_whatever_is_scored_at_once(lens, log, kind, monkeypatch):
    whole = rank_positives(log, config(candidates=kind), BASELINES, lens)[0]
    monkeypatch.setattr(item_ranks, "PAIRS_AT_ONCE", 20)
    assert whole.equals(rank_positives(log, config(candidates=kind), BASELINES, lens)[0])


def test_a_larger_draw_keeps_a_smaller_one_and_its_negatives(log):
    whole, few, fewer = (positives(log, rows=rows) for rows in (None, 4, 2))
    assert (few.height, fewer.height) == (4, 2)
    assert set(fewer["row"]) < set(few["row"]) < set(whole["row"])
    assert whole["row"].to_list() == log.samples.filter(split="test", label=1)["row"].to_list()
    of_two = positives(log, users=2)
    assert of_two["user_index"].n_unique() == 2
    assert (
        of_two["row"].to_list()
        == whole.filter(pl.col("user_index").is_in(of_two["user_index"].implode()))["row"].to_list()
    )
    of_all = candidate_items(log, whole, 0, 3)[whole["row"].is_in(few["row"].implode()).to_numpy()]
    np.testing.assert_array_equal(of_all, candidate_items(log, few, 0, 3))


def test_likes_of_a_single_user_are_refused(lens, log):
    message = r"draws likes of 1 user\(s\), .*expected at least 2.* Raise ranking\.users or ranking\.rows"
    with pytest.raises(ValueError, match=message):
        rank_positives(log, config(users=1), BASELINES, lens)


def test_scores_that_are_no_numbers_are_refused(log):
    with pytest.raises(ValueError, match=r"lens: 1 of \d+ scores are no numbers; train it again"):
        ranks_by(lambda pairs: np.where(np.arange(pairs.height) == 0, np.nan, 1.0), log)
