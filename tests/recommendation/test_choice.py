"""Which candidates, and which order of them, the validation split prefers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from reclora_kedro.baselines.linear import LinearConfig
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import PopularityConfig

from live_service import block
from reclora_kedro.baselines import neighbours
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.pipelines.recommendation.nodes import shortlist_candidates
from reclora_kedro.recommendation import choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommendations import with_reasons

BOOTSTRAP = Bootstrap(confidence=0.95, samples=100, seed=0)


def config(**changes):
    settings = {
        "variant": None,
        "users": None,
        "candidates": "validation",
        "order": "validation",
        "validation_likes": None,
        "teaching_likes": None,
        "retrieved": 12,
        "exact_items": 1_000,
        "pool_items": 3,
        "pool_days": 1.0,
        "shortlist": None,
        "diversity": 0.0,
        "top_n": 2,
        "seed": 0,
    }
    return RecommendationConfig(**settings | changes)


@pytest.fixture
def log(log):
    """The last event of each user tests, and the four before it validate."""
    place = pl.int_range(pl.len()).over("user_index") - pl.len().over("user_index")
    split = pl.when(place >= -1).then(pl.lit("test")).when(place >= -5).then(pl.lit("validation"))
    return replace(log, samples=log.samples.with_columns(split=split.otherwise(pl.lit("train"))))


def likes_of(log):
    return draw_positives(log, "validation", None, None, 0)


class Oracle:
    """Scores likes of the validation split above all else, or below it."""

    def __init__(self, log, sign) -> None:
        liked = log.samples.filter(split="validation", label=1)
        self._likes, self._sign = liked.select("user_index", "history_end", "item_index", like=pl.lit(1.0)), sign

    def score(self, pairs):
        joined = pairs.join(
            self._likes, on=["user_index", "history_end", "item_index"], how="left", maintain_order="left"
        )
        return self._sign * joined["like"].fill_null(0.0).to_numpy()

    def logits(self, pairs):
        return torch.tensor(self.score(pairs))


def same(pairs):
    """No item before another."""
    return np.zeros(pairs.height)


@pytest.mark.parametrize(
    ("settings", "retriever", "lens", "expected"),
    [
        ({}, 1, -1, ("retriever", "candidates")),
        ({}, -1, 1, ("neighbours", "lens")),
        ({"order": "candidates"}, -1, 1, ("neighbours", "candidates")),
        ({"order": "lens"}, 1, -1, ("neighbours", "lens")),
        ({"candidates": "retriever"}, -1, 1, ("retriever", "lens")),
    ],
)
def test_likes_of_the_validation_split_choose_what_is_not_named(log, settings, retriever, lens, expected):
    settings = config(**settings)
    scorers = {"neighbours": same, "retriever": Oracle(log, retriever).score}
    scorers = {source: scorers[source] for source in settings.sources if source in scorers}
    likes, information = likes_of(log), np.ones(log.items.height)
    compared = choice.compare_candidates(scorers, Oracle(log, lens), log, likes, information, settings, BOOTSTRAP)
    assert {record["rows"] for record in compared} == {log.samples.filter(split="validation", label=1).height}
    assert choice.chosen(compared, settings) == expected


def test_fewer_likes_are_ranked_in_a_catalogue_that_is_larger():
    settings = config(exact_items=1_000)
    cases = [(500, 1_000), (500, 5_000), (3, 10**6), (None, 10**6)]
    assert [choice.at_most(likes, items, settings) for likes, items in cases] == [500, 100, 2, None]


def test_what_is_named_is_taken_and_candidates_that_no_source_finds_are_ordered_by_the_lens():
    assert choice.chosen([], config(candidates="retriever", order="candidates")) == ("retriever", "candidates")
    assert choice.chosen([], config(candidates="unseen")) == ("unseen", "lens")
    assert not config(candidates="unseen").validates
    assert not config(candidates="fusion", order="lens").validates


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, ("neighbours", "lens")), ({"order": "candidates"}, ("neighbours", "candidates"))]
)
def test_where_likes_of_a_single_user_would_choose_neighbours_and_lens_are_taken_and_that_is_said(
    log, caplog, settings, expected
):
    settings = config(validation_likes=1, **settings)
    assert (
        choice.compare_candidates(
            {"neighbours": same}, Oracle(log, 1), log, likes_of(log)[:1], None, settings, BOOTSTRAP
        )
        == []
    )
    assert choice.chosen([], settings) == expected
    assert (
        f"1 user(s) have likes of new items in it, and 2 are needed: candidates are from {expected[0]}" in caplog.text
    )
    assert "Raise recommendation.validation_likes" in caplog.text


@pytest.mark.parametrize("candidates", ["unseen", "popularity", "validation"])
def test_reasons_are_by_the_item_neighbours_that_likes_choose(log, lens, candidates):
    settings = ItemNeighboursConfig.model_validate(
        block("recommendation", "item_neighbours", nearest=12, text_weight=0.0, tried_text_weights=[3.0])
    )
    chosen = neighbours.chosen(log, settings)
    assert chosen.text_weight > settings.text_weight
    shortlist, *_ = shortlist_candidates(
        lens,
        log,
        None,
        config(candidates=candidates, order="candidates"),
        settings,
        LinearConfig.model_validate(block("recommendation", "linear")),
        PopularityConfig(days=(), validation_likes=1, seed=0),
        BOOTSTRAP,
        LOCAL,
    )
    by_chosen, by_default = (
        with_reasons(shortlist, log, ItemNeighbours(log, each))["because"] for each in (chosen, settings)
    )
    assert shortlist["because"].equals(by_chosen)
    assert not by_chosen.equals(by_default)
