"""Trees that correct the order of a fusion."""

import lightgbm
import numpy as np
import polars as pl
import pytest

from reclora_kedro.recommendation import second_stage
from reclora_kedro.recommendation.features import TaughtLists

MOMENTS, ITEMS = 300, 20


def lists_of(seed, moments=MOMENTS, told=2.0):
    """Likes that a feature tells, as far as `told`, and base scores that tell them, too."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(moments, ITEMS, 3))
    utility = values[:, :, 0] + told * values[:, :, 1] + random.gumbel(size=(moments, ITEMS))
    liked = (utility == utility.max(axis=1)[:, None]).ravel()
    features = pl.DataFrame(values.reshape(-1, 3), schema=["base", "other", "noise"]).cast(pl.Float32)
    moment = np.repeat(np.arange(moments), ITEMS)
    return TaughtLists(features, liked, moment, user=moment // 2), values[:, :, 0].ravel()


def ndcg_of(lists, scores):
    rank = 1 + (scores.reshape(-1, ITEMS) > scores[lists.liked][:, None]).sum(axis=1)
    return np.mean((rank <= 10) / np.log2(1 + rank))


def test_trees_improve_the_order_by_what_the_sum_does_not_tell():
    learned, test = lists_of(0), lists_of(1)
    trees = second_stage.learn_trees(*learned, seed=0)
    assert ndcg_of(test[0], test[1] + second_stage.scores_of_trees(test[0].features, trees)) > ndcg_of(*test) + 0.1
    assert next(iter(second_stage.importance(trees))) == "other"


def test_users_who_taught_nothing_tell_how_many_trees_are_best(monkeypatch):
    validated, cv = [], lightgbm.cv
    monkeypatch.setattr(
        lightgbm, "cv", lambda *args, **rest: validated.append((rest, cv(*args, **rest))) or validated[0][1]
    )
    lists, base = lists_of(0)
    kept = lightgbm.Booster(model_str=second_stage.learn_trees(lists, base, seed=0)).num_trees()
    [(given, result)] = validated
    assert kept == 1 + np.argmax(result["valid ndcg@10-mean"])
    assert 0 < kept < second_stage.ROUNDS - second_stage.PATIENCE
    for learns, tells in given["folds"]:
        assert not np.isin(lists.user[learns], lists.user[tells]).any()
    np.testing.assert_array_equal(np.sort(np.concatenate([tells for _, tells in given["folds"]])), np.arange(len(base)))


def test_a_fold_is_measured_from_its_own_base_scores(monkeypatch):
    """Without a split that gains anything, what LightGBM measures of a fold is the NDCG of its base scores."""
    lists, base = lists_of(0)
    monkeypatch.setitem(second_stage.SETTINGS, "min_data_in_leaf", len(base))
    users = np.unique(lists.user)
    validates = [np.isin(lists.user, own) for own in np.array_split(users, second_stage.FOLDS)]
    folds = [(np.flatnonzero(~own), np.flatnonzero(own)) for own in validates]
    result = lightgbm.cv(second_stage.SETTINGS, second_stage._data(lists, base), 1, folds=folds)["valid ndcg@10-mean"]
    assert result == pytest.approx([np.mean([second_stage._ndcg_of_base(lists, base, own) for own in validates])])


def test_there_are_no_trees_where_they_do_not_improve_the_sum():
    lists, _ = lists_of(0)
    in_order = lists.liked.astype(float)
    assert second_stage.learn_trees(lists, in_order, seed=0) is None
    assert second_stage.learn_trees(lists, -in_order, seed=0) is not None


def test_likes_of_too_few_users_teach_no_trees():
    least = second_stage.LEAST_USERS
    assert second_stage.learn_trees(*lists_of(0, moments=2 * least - 2), seed=0) is None
    assert second_stage.learn_trees(*lists_of(0, moments=2 * least), seed=0) is not None
