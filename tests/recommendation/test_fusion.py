import numpy as np
import polars as pl
import pytest

from reclora_kedro.recommendation import second_stage
from reclora_kedro.recommendation.features import TaughtLists


def lists_of(features, liked, moments, items):
    moment = np.repeat(np.arange(moments), items)
    return TaughtLists(pl.DataFrame(features), liked, moment, user=moment)


def test_likes_give_weights_to_what_tells_them_and_none_to_what_does_not():
    random = np.random.default_rng(0)
    told = random.normal(size=(300, 50))
    utility = told + random.gumbel(size=told.shape)
    features = {"noise_rank": random.normal(size=told.size), "opposite_rank": -told.ravel(), "right_rank": told.ravel()}
    weights = second_stage.learn_weights(lists_of(features, (utility == utility.max(axis=1)[:, None]).ravel(), 300, 50))
    assert weights["right_rank"] == pytest.approx(1, abs=0.15)
    assert weights.get("noise_rank", 0) < 0.1
    assert "opposite_rank" not in weights


def test_without_weights_ranks_count_the_same_and_nothing_else_counts():
    features = pl.DataFrame({"a_rank": [-1.0, -2.0], "b_rank": [-0.5, 0.0], "c": [9.0, 0.0], "a_score": [7.0, 1.0]})
    np.testing.assert_allclose(second_stage.fused_scores(features, None), [-1.5, -2.0])
    np.testing.assert_allclose(second_stage.fused_scores(features, {"b_rank": 2.0, "c": 1.0}), [8.0, 0.0])
