"""The best items of several sources and their features."""

from dataclasses import replace

import numpy as np
import pytest

from circle_log import circle_log
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.linear import Linear, LinearSettings
from reclora_kedro.candidates.popularity import Popularity, PopularitySettings
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation import features
from reclora_kedro.recommendation.features import CandidateReader, read_lists
from scored import ByItem, moments_of


@pytest.fixture(scope="module")
def log():
    log = circle_log()
    return log.with_embeddings(np.random.default_rng(1).normal(size=(log.items.height, 3)))


def test_candidates_are_the_best_items_of_any_source_with_their_ranks_scores_and_gaps(log, monkeypatch):
    monkeypatch.setattr(features, "BEST_PER_SOURCE", 2)
    monkeypatch.setattr("reclora_kedro.candidates.moments.SCORES_AT_ONCE", 1)
    monkeypatch.setattr("reclora_kedro.candidates.moments.LEAST_AT_ONCE", 1)
    up, down = np.arange(21.0), np.append(100 - np.arange(20.0), -1)
    reader = CandidateReader({"up": ByItem(up), "down": ByItem(down)}, ItemFacts(log))
    asked = log.samples.filter(split="test")[:2]
    excluded = [np.array([], dtype=np.int64), np.array([0, 20])]
    moments = moments_of(log, asked, repeat=True, excluded=excluded)
    candidates = reader.read(moments)
    assert candidates.row.tolist() == [0] * 4 + [1] * 4
    for row, best in enumerate(([0, 1, 19, 20], [1, 2, 18, 19])):
        own = candidates.row == row
        order = np.argsort(candidates.item[own])
        assert candidates.item[own][order].tolist() == best
        assert (np.diff(moments.order.place[candidates.item[own]]) > 0).all()
        of_row = candidates.features.filter(own)[order]
        np.testing.assert_allclose(of_row["up_rank"], -np.log([3, 3, 2, 1]), rtol=1e-6)
        np.testing.assert_allclose(of_row["down_rank"], -np.log([1, 2, 3, 3]), rtol=1e-6)
        np.testing.assert_allclose(of_row["up_score"], up[best])
        np.testing.assert_allclose(of_row["down_gap"], down[best] - down[best].max())
    assert reader.read(moments) is candidates


def test_only_moments_whose_like_a_source_finds_teach(log, monkeypatch):
    monkeypatch.setattr(features, "BEST_PER_SOURCE", 3)
    likes = draw_positives(log, "validation", None, 0)
    reader = CandidateReader({"one": ByItem(-np.arange(21.0))}, ItemFacts(log))
    lists = read_lists(reader, moments_of(log, likes), likes["item_index"].to_numpy())
    assert lists.liked.sum() == len(np.unique(lists.moment)) == lists.moment.max() + 1
    assert 0 < lists.liked.sum() < likes.height
    assert read_lists(reader, moments_of(log, likes), np.full(likes.height, 20)) is None


def test_what_a_second_stage_learns_from_knows_nothing_of_the_likes_that_it_learns(log):
    """Other items in all events of the validation and test splits leave its candidates as they were."""
    later = log.sequences.timestamp >= 3
    item = np.where(later, 20 - log.sequences.item_index, log.sequences.item_index).astype(np.int32)
    other = replace(log, sequences=replace(log.sequences, item_index=item))
    likes, found = draw_positives(log, "validation", None, 0), []
    for each in (log, other):
        training = Training.from_split(each)
        sources = {
            "item_knn": ItemKnn.fit(training, ItemKnnSettings(text_weight=1)),
            "linear": Linear.fit(training, LinearSettings(transition_weight=1, text_weight=1)),
            "popularity": Popularity.fit(training, PopularitySettings()),
            "lately": Popularity.fit(training, PopularitySettings(days=1e-4)),
        }
        sources = {name: model.as_of_each_moment(training) for name, model in sources.items()}
        found.append(CandidateReader(sources, ItemFacts(each)).read(training.moments(likes)))
    one, two = found
    np.testing.assert_array_equal(one.row, two.row)
    np.testing.assert_array_equal(one.item, two.item)
    assert one.features.equals(two.features)
