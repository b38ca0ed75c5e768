"""Which order of candidates the validation split prefers."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.recommend import orders
from reclora_kedro.recommend.config import RecommendationConfig
from reclora_kedro.rivals.neighbours import ItemNeighboursConfig

NEAREST = ItemNeighboursConfig(events=5, nearest=100, recency=0.8, popularity_power=0.5, text_weight=1.0)
BOOTSTRAP = Bootstrap(confidence=0.95, samples=100, seed=0)


def config(**changes):
    settings = {
        "variant": None,
        "users": None,
        "candidates": "neighbours",
        "order": "validation",
        "validation_likes": None,
        "neighbours": 12,
        "pool_items": 3,
        "pool_days": 1.0,
        "shortlist": None,
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


@pytest.mark.parametrize(("sign", "order"), [(1, "lens"), (-1, "candidates")])
def test_the_order_is_the_one_that_ranks_likes_of_the_validation_split_better(lens, log, monkeypatch, sign, order):
    liked = log.samples.filter(split="validation", label=1)

    class Reader:
        def __init__(self, *_) -> None:
            pass

        def logits(self, pairs):
            of_likes = liked.select("user_index", "history_end", "item_index", like=pl.lit(1.0))
            known = pairs.join(
                of_likes, on=["user_index", "history_end", "item_index"], how="left", maintain_order="left"
            )
            return torch.tensor(sign * known["like"].fill_null(0.0).to_numpy())

    monkeypatch.setattr(orders, "LensReader", Reader)
    compared = orders.compare_orders(lens, log, config(), NEAREST, BOOTSTRAP)
    assert [record["model"] for record in compared] == list(orders.ORDERS)
    assert {record["rows"] for record in compared} == {liked.height}
    assert orders.chosen_order(compared, config()) == order


def test_an_order_that_is_named_is_taken_and_other_candidates_than_neighbours_are_ordered_by_the_lens():
    assert orders.chosen_order([], config(order="candidates")) == "candidates"
    assert not config(order="lens").validates_order
    assert not config(candidates="unseen").validates_order
    assert orders.chosen_order([], config(candidates="unseen")) == "lens"


def test_likes_of_a_single_user_choose_nothing(lens, log):
    with pytest.raises(ValueError, match=r"but 1 user\(s\) have likes.*Raise recommendation\.validation_likes"):
        orders.compare_orders(lens, log, config(validation_likes=1), NEAREST, BOOTSTRAP)
