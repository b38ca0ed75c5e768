"""Orders of what sources find."""

import numpy as np
import pytest
import torch

from circle_log import circle_log
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation import features, second_stage
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.second_stage import Ordered, Reranked, SecondStage
from scored import ByItem, Scored, moments_of


@pytest.fixture(scope="module")
def log():
    return circle_log()


class Lens:
    """A lens with the logits that a function of pairs returns."""

    def __init__(self, logits):
        self.logits = logits


def reader_of(log, sources):
    return CandidateReader(sources, ItemFacts(log))


def test_the_best_items_of_all_sources_are_ordered_and_others_follow_without_scores(log, monkeypatch):
    monkeypatch.setattr(features, "BEST_PER_SOURCE", 2)
    sources = {"up": ByItem(np.arange(21.0)), "down": ByItem(-np.arange(21.0))}
    stage = SecondStage(weights={"up_rank": 1.0, "down_rank": 0.5})
    moments = moments_of(log, log.samples.filter(split="test")[:3], repeat=True)
    lists = Ordered(reader_of(log, sources), stage, "fusion").top(moments, 30)
    expected = {20: -0.5 * np.log(3), 19: -np.log(2) - 0.5 * np.log(3), 0: -np.log(3), 1: -np.log(3) - 0.5 * np.log(2)}
    best = sorted(expected, key=lambda item: -expected[item])
    others = [item for item in moments.order.items.tolist() if item not in expected]
    for items, scores in zip(lists.items, lists.scores, strict=True):
        assert items.tolist() == [*best, *others, *[NO_ITEM] * 9]
        np.testing.assert_allclose(scores[:4], [expected[item] for item in best], rtol=1e-6)
        assert np.isnan(scores[4:]).all()


def test_the_lens_reorders_the_shortlist_alone_and_shows_its_probabilities(log):
    logits = np.random.default_rng(0).normal(size=21)
    lens = Lens(lambda pairs: torch.from_numpy(logits[pairs["item_index"].to_numpy()]))
    first = ByItem(-np.arange(21.0))
    moments = moments_of(log, log.samples.filter(split="test")[:2], repeat=True)
    for most in (3, 7):
        lists = Reranked(first, lens, shortlist=5).top(moments, most)
        expected = [*sorted(range(5), key=lambda item: -logits[item]), 5, 6][:most]
        assert lists.items.tolist() == [expected] * 2
        np.testing.assert_allclose(lists.scores[0, :5], 1 / (1 + np.exp(-logits[expected[:5]])), rtol=1e-6)
        assert np.isnan(lists.scores[:, 5:]).all()


def test_the_ranker_learns_what_no_rank_tells(log):
    """Each user takes the item after the last one, of which a source knows that it is one of two."""

    def either(moments):
        after_last = (np.arange(21) - log.sequences.item_index[moments.ends - 1][:, None]) % 20
        return np.isin(after_last, [1, 5]).astype(float)

    angle = 2 * np.pi * np.arange(21) / 20
    log = log.with_embeddings(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    likes, test = (draw_positives(log, split, None, 0) for split in ("validation", "test"))
    reader = reader_of(log, {"either": Scored(either)})
    stage = SecondStage.learned(reader, moments_of(log, likes), likes["item_index"].to_numpy(), 0)
    moments, target = moments_of(log, test), test["item_index"].to_numpy()
    firsts = {
        kind: (Ordered(reader, stage, kind).top(moments, 1).items[:, 0] == target).sum()
        for kind in ("fusion", "ranker")
    }
    assert firsts["ranker"] > 1.3 * firsts["fusion"]
    assert sum(second_stage.importance(stage.trees).values()) == pytest.approx(1)


def test_without_a_like_among_the_candidates_nothing_is_learned_and_ranks_count(log):
    reader = reader_of(log, {"one": ByItem(np.arange(21.0))})
    likes = draw_positives(log, "validation", 40, 0)
    moments, nothing = moments_of(log, likes), np.full(likes.height, NO_ITEM)
    stage = SecondStage.learned(reader, moments, nothing, 0)
    assert stage == SecondStage()
    by_rank = Ordered(reader, stage, "ranker").top(moments, 5)
    assert by_rank.items.tolist() == reader.sources["one"].top(moments, 5).items.tolist()
