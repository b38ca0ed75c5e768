from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from circle_log import circle_log
from live_service import block
from reclora_kedro.baselines import neighbours
from reclora_kedro.baselines.linear import LinearConfig, LinearModel
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.histories.taken_items import draw_positives
from reclora_kedro.recommend import fusion
from reclora_kedro.recommend.fusion import LENS, Fusion, best_of_sources, learn_weights
from reclora_kedro.recommend.item_ranks import candidate_pairs


def pairs_of(moments, items):
    """Every item at each moment."""
    moment = pl.DataFrame({"user_index": range(moments), "history_end": range(moments), "timestamp": range(moments)})
    return moment.join(pl.DataFrame({"item_index": range(items)}), how="cross")


def by_item(values):
    return lambda pairs: np.asarray(values)[pairs["item_index"].to_numpy()]


def test_the_best_items_of_each_source_are_ordered_and_others_come_last(monkeypatch):
    monkeypatch.setattr(fusion, "MOST", 2)
    scorers = {"up": by_item([1.0, 2, 3, 4, 5, 6]), "down": by_item([9.0, 8, 7, 3, 2, 1])}
    pairs = pairs_of(2, 6)
    score = Fusion(scorers, {"up": 1.0, "down": 0.5, LENS: 0.0}, None).score(pairs).reshape(2, 6)
    expected = [-np.log(3), -0.5 * np.log(2) - np.log(3), None, None, -np.log(2) - 0.5 * np.log(3), -0.5 * np.log(3)]
    for row in score:
        np.testing.assert_allclose(row[[0, 1, 4, 5]], [each for each in expected if each is not None])
        assert row[2] == row[3] < row[[0, 1, 4, 5]].min()


def test_likes_give_weights_to_what_tells_them_and_none_to_what_does_not():
    random, pairs = np.random.default_rng(0), pairs_of(300, 50)
    told = random.normal(size=pairs.height)
    utility = pairs.with_columns(utility=pl.Series(told + random.gumbel(size=pairs.height)), like=pl.lit(1))
    likes = utility.filter(pl.col("utility") == pl.col("utility").max().over("user_index"))
    scorers = {"noise": lambda _: random.normal(size=pairs.height), "opposite": lambda _: -told}
    weights = learn_weights(iter([pairs]), likes, scorers, lambda of: told)
    assert weights[LENS] == pytest.approx(1, abs=0.15)
    assert weights["noise"] < 0.1
    assert weights["opposite"] == 0


def test_without_a_like_among_the_candidates_nothing_is_learned():
    pairs = pairs_of(2, 4)
    likes = pairs[:1].with_columns(item_index=pl.lit(9, dtype=pl.Int64))
    assert learn_weights(iter([pairs]), likes, {"one": by_item(np.arange(4.0))}, None) is None
    assert learn_weights(iter([]), likes, {"one": by_item(np.arange(4.0))}, None) is None


def test_what_the_fusion_learns_from_knows_nothing_of_the_likes_that_it_learns():
    """Other items in all events of the validation and test splits leave its columns as they were."""
    log = circle_log()
    later = log.sequences.timestamp >= 3
    item = np.where(later, 20 - log.sequences.item_index, log.sequences.item_index).astype(np.int32)
    other = replace(log, sequences=replace(log.sequences, item_index=item))
    settings = ItemNeighboursConfig.model_validate(block("recommendation", "item_neighbours"))
    config = LinearConfig.model_validate(block("recommendation", "linear", recencies=[0.9], regularizations=[30]))
    likes, columns = draw_positives(log, "validation", None, None, 0), []
    for each in (log, other):
        linear = LinearModel.chosen(each, config.model_copy(update={"weights": (0.0,)}))
        scorers = {"neighbours": neighbours.scorer(each, settings), "linear": linear.score}
        columns.append([best_of_sources(pairs, scorers, None) for pairs in candidate_pairs(log, likes, 0)])
    for one, two in zip(*columns, strict=True):
        np.testing.assert_array_equal(one.places, two.places)
        np.testing.assert_array_equal(one.columns, two.columns)
