"""Items of a large catalogue are those that scores of every item would find."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from reclora_kedro.baselines.linear import LinearConfig, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import PopularityConfig
from reclora_kedro.recommendation.candidates import candidate_sets, nearest
from reclora_kedro.recommendation.finders import Finder
from reclora_kedro.recommendation.sources import Choice, SourceSettings, current_source

from live_service import NOT_TRIED, block
from reclora_kedro.candidates import index
from reclora_kedro.candidates.next_item.base import fresh_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.index import NO_ITEM
from reclora_kedro.recommendation import candidates
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.features import RANK, Lists
from reclora_kedro.recommendation.ranker import learn_trees
from reclora_kedro.recommendation.second_stage import SecondStage
from reference_log import reference_log

USERS, ITEMS, EVENTS, MOST = 30, 160, 12, 25
LINEAR = LinearConfig.model_validate(block("recommendation", "linear"))
MADE_OF = LinearSettings(regularization=30, recency=0.9, transition_weight=0.5, text_weight=0.25, text_power=2)
NEAR = ItemNeighboursConfig(events=5, nearest=100, recency=0.8, popularity_power=0.5, text_weight=1.0, **NOT_TRIED)
POPULAR = PopularityConfig(days=(), validation_likes=1, seed=0)


@pytest.fixture(scope="module")
def log():
    """Items of which most have no event, words that most items have not, and users of two tastes."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), EVENTS)
    interactions = pl.DataFrame(
        {
            "user_id": user,
            "item_id": np.concatenate(
                [random.permutation(ITEMS // 4)[:EVENTS] + ITEMS // 4 * (u % 2) for u in range(USERS)]
            ),
            "rating": random.integers(1, 6, len(user)).astype(float),
            "timestamp": random.integers(1, 9 * 86_400, len(user)),
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    words = random.integers(40, size=(ITEMS, 2))
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"word{a} word{b}" for a, b in words]})
    log = reference_log(interactions, items, pl.DataFrame({"user_id": range(USERS)}), min_history=1)
    log = replace(log, samples=log.samples.with_columns(split=pl.lit("train")))
    return log.with_embeddings(random.normal(size=(ITEMS, 8)))


@pytest.fixture(scope="module")
def retriever(log):
    config = RetrieverConfig.model_validate(block("candidates", "retriever", device="cpu", dim=8))
    items = torch.from_numpy(log.sequences.item_index.astype(np.int64))
    torch.manual_seed(0)
    return fresh_retriever(torch.from_numpy(log.item_text_vectors()), items, config).freeze()


@pytest.fixture(scope="module")
def trees():
    """Trees of the linear model's rank and of a gap, which split at several of their values."""
    random = np.random.default_rng(0)
    features = pl.DataFrame(
        {"linear_rank": -np.log(random.integers(1, 52, 2_000)), "popularity_gap": -random.random(2_000)}
    )
    liked = features.sum_horizontal().to_numpy() + random.normal(size=2_000) / 4 > -2.5
    moment = np.arange(2_000) // 50
    return learn_trees(Lists(features.cast(pl.Float32), liked, moment), np.zeros(2_000), seed=0)


@pytest.mark.parametrize("items_of_ease", [1_000, 1])
@pytest.mark.parametrize(
    ("kind", "days"),
    [
        ("popularity", None),
        ("popularity", 2.0),
        ("neighbours", None),
        ("linear", None),
        ("fusion", None),
        ("ranker", 2.0),
    ],
)
def test_what_is_found_is_what_scores_of_every_item_find(log, retriever, trees, monkeypatch, kind, days, items_of_ease):
    monkeypatch.setattr(index, "SEARCHED_SHARE", 1)
    sets = candidate_sets(log, kind, RecommendationConfig.model_construct(pool_days=3.0))
    stage = SecondStage(weights={"linear" + RANK: 1.0, "retriever" + RANK: 0.5, "neighbours" + RANK: 0.7}, trees=trees)
    choice = Choice(kind=kind, order="candidates", popularity=days, linear=MADE_OF, stage=stage)
    linear = LINEAR.model_copy(update={"max_items": items_of_ease})
    exact, finder = (
        current_source(choice, SourceSettings(POPULAR, NEAR, linear, most), retriever, None, log, sets.pool)
        for most in (ITEMS, ITEMS - 1)
    )
    users = log.now(log.find_users(log.users["user_id"]))
    pairs = pl.concat(candidates._pairs_in_parts(sets, users, 1))
    assert isinstance(finder, Finder)
    assert not isinstance(exact, Finder)

    def best_of(pairs):
        return nearest(pairs, exact, MOST)["item_index"].to_numpy().reshape(USERS, MOST)

    best = best_of(pairs)
    np.testing.assert_array_equal(finder.find(users, MOST), best)
    excluded = best[0, :4].astype(np.int64)
    without = pairs.filter(~pl.col("item_index").is_in(excluded))
    np.testing.assert_array_equal(finder.find(users, MOST, excluded), best_of(without))


def test_all_items_are_found_where_more_are_wanted_than_a_source_knows(log):
    pool = candidate_sets(log, "fusion", RecommendationConfig.model_construct(pool_days=3.0)).pool
    settings = SourceSettings(POPULAR, NEAR, LINEAR, ITEMS - 1)
    finder = current_source(Choice(kind="fusion", order="candidates"), settings, None, None, log, pool)
    users = log.now(log.find_users(log.users["user_id"][:3]))
    for row, items in enumerate(finder.find(users, ITEMS)):
        seen = log.sequences.item_index[log.sequences.starts[row] : log.sequences.ends[row]]
        assert sorted({*range(ITEMS)} - {*items.tolist()}) == sorted({*seen.tolist()})
        assert (items == NO_ITEM).sum() == len(seen)
