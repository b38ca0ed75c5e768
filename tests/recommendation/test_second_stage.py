"""Candidates of several sources, their features, and what orders them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from reclora_kedro.baselines.linear import LinearConfig, LinearModel
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity

from circle_log import circle_log
from live_service import block
from reclora_kedro.baselines import neighbours
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation import features, ranker
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.item_ranks import candidate_pairs
from reclora_kedro.recommendation.second_stage import SecondStage


def pairs_of(moments, items):
    """Every item at each moment."""
    moment = pl.DataFrame(
        {"user_index": range(moments), "history_end": range(0, 5 * moments, 5), "timestamp": range(moments)}
    )
    return moment.join(pl.DataFrame({"item_index": range(items)}), how="cross")


def by_item(values):
    return lambda pairs: np.asarray(values)[pairs["item_index"].to_numpy()]


def reader_of(log, scorers, lens=None):
    return CandidateReader(log, ItemFacts(log), scorers, lens)


@pytest.fixture(scope="module")
def log():
    log = circle_log()
    return log.with_embeddings(np.random.default_rng(1).normal(size=(log.items.height, 3)))


def test_the_best_items_of_each_source_are_ordered_and_others_come_last(log, monkeypatch):
    monkeypatch.setattr(features, "BEST_PER_SOURCE", 2)
    scorers = {"up": by_item([1.0, 2, 3, 4, 5, 6]), "down": by_item([9.0, 8, 7, 3, 2, 1])}
    stage = SecondStage(weights={"up_rank": 1.0, "down_rank": 0.5})
    score = stage.scorers(reader_of(log, scorers))["fusion"](pairs_of(2, 6)).reshape(2, 6)
    expected = [-np.log(3), -0.5 * np.log(2) - np.log(3), -np.log(2) - 0.5 * np.log(3), -0.5 * np.log(3)]
    for row in score:
        np.testing.assert_allclose(row[[0, 1, 4, 5]], expected, rtol=1e-6)
        assert row[2] == row[3] < row[[0, 1, 4, 5]].min()


def test_features_are_those_of_the_moment(log):
    user, second = 7, 3
    pair = {"user_index": [user], "history_end": [5 * user + 3], "timestamp": [second], "item_index": [4]}
    told = ItemFacts(log).features(log, pl.DataFrame(pair))
    told = {name: values[0] for name, values in told.items()}
    item, seconds, training = log.sequences.item_index, log.sequences.timestamp, log.training_events()
    events = np.flatnonzero(training & (item == 4) & (seconds < second))
    assert told["events"] == told["recent_events"] == pytest.approx(np.log1p(len(events)))
    assert told["days_since_item"] == pytest.approx(np.log1p((second - seconds[events].max()) / 86_400))
    assert told["item_age"] == pytest.approx(np.log1p((second - seconds[events].min()) / 86_400))
    assert told["history_length"] == pytest.approx(np.log(4))
    assert told["days_since_event"] == pytest.approx(np.log1p(1 / 86_400))
    vectors = log.item_embeddings / np.linalg.norm(log.item_embeddings, axis=1, keepdims=True)
    cosines = vectors[item[5 * user : 5 * user + 3]] @ vectors[4]
    assert (told["cosine_last"], told["cosine_latest"]) == pytest.approx((cosines[-1], cosines.max()), abs=1e-6)


def test_what_is_unknown_of_an_item_or_a_user_is_told_apart(log):
    nobody = {"user_index": [7], "history_end": [35], "timestamp": [9], "item_index": [20]}
    told = ItemFacts(log).features(log, pl.DataFrame(nobody))
    unknown = {name: values[0] for name, values in told.items() if values[0]}
    assert unknown == {"days_since_item": -1, "item_age": -1, "days_since_event": -1}


def test_the_ranker_learns_what_no_rank_tells(log):
    """Each user takes the item after the last one, of which a source knows that it is one of two."""

    def either(pairs):
        after_last = (pairs["item_index"] - pl.Series(log.sequences.item_index).gather(pairs["history_end"] - 1)) % 20
        return after_last.is_in([1, 5]).cast(pl.Float64).to_numpy()

    angle = 2 * np.pi * np.arange(21) / 20
    log = log.with_embeddings(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    likes, scorers = draw_positives(log, "validation", None, None, 0), {"either": either}
    reader = reader_of(log, scorers)
    stage = SecondStage.learned(reader, candidate_pairs(log, likes, 0), likes, 0)
    test = draw_positives(log, "test", None, None, 0)
    firsts = {"fusion": 0, "ranker": 0}
    for pairs in candidate_pairs(log, test, 0):
        for name, scorer in stage.scorers(reader).items():
            scored = pairs.with_columns(score=pl.Series(scorer(pairs))).sort("score", descending=True)
            best = scored.unique("user_index", keep="first", maintain_order=True)
            firsts[name] += best.join(test, on=["user_index", "item_index"]).height
    assert firsts["ranker"] > 1.3 * firsts["fusion"]
    assert sum(ranker.importance(stage.trees).values()) == pytest.approx(1)


def test_without_a_like_among_the_candidates_nothing_is_learned_and_ranks_count(log):
    pairs, reader = pairs_of(2, 4), reader_of(log, {"one": by_item(np.arange(4.0))})
    likes = pairs[:1].with_columns(item_index=pl.lit(9, dtype=pl.Int64))
    assert SecondStage.learned(reader, [pairs], likes, 0) == SecondStage.learned(reader, [], likes, 0) == SecondStage()
    scorers = SecondStage().scorers(reader)
    np.testing.assert_array_equal(scorers["ranker"](pairs), scorers["fusion"](pairs))


def test_likes_too_few_for_any_tree_leave_the_order_of_the_fusion(log):
    likes = draw_positives(log, "validation", None, 2, 0)
    reader = reader_of(log, {"one": by_item(np.arange(21.0))})
    stage = SecondStage.learned(reader, candidate_pairs(log, likes, 0), likes, 0)
    assert stage.trees is None
    assert stage.weights is not None


def test_what_the_second_stage_learns_from_knows_nothing_of_the_likes_that_it_learns(log):
    """Other items in all events of the validation and test splits leave its features as they were."""
    later = log.sequences.timestamp >= 3
    item = np.where(later, 20 - log.sequences.item_index, log.sequences.item_index).astype(np.int32)
    other = replace(log, sequences=replace(log.sequences, item_index=item))
    settings = ItemNeighboursConfig.model_validate(block("recommendation", "item_neighbours"))
    config = LinearConfig.model_validate(block("recommendation", "linear", recencies=[0.9], regularizations=[30]))
    likes, found = draw_positives(log, "validation", None, None, 0), []
    for each in (log, other):
        linear = LinearModel.chosen(each, config.model_copy(update={"weights": (0.0,)}))
        scorers = {"neighbours": neighbours.scorer(each, settings), "linear": linear.score}
        scorers |= {"popularity": Popularity(each).score, "popularity_lately": Popularity(each, 1).score}
        reader = reader_of(each, scorers)
        found.append([reader.read(pairs) for pairs in candidate_pairs(log, likes, 0)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.places, two.places)
        assert one.features.equals(two.features)
