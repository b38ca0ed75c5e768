from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig, chosen

from circle_log import circle_log
from live_service import NOT_TRIED
from random_logs import interaction_tables, log_of
from reclora_kedro.baselines import neighbours as module

SETTINGS = {"events": 3, "nearest": 100, "recency": 0.7, "popularity_power": 0.5, "text_weight": 0.0, **NOT_TRIED}


def config(**changes):
    return ItemNeighboursConfig(**SETTINGS | changes)


def with_vectors(log):
    return log.with_embeddings(np.random.default_rng(0).normal(size=(log.items.height, 4)))


def scores_by_hand(log, settings, known, user, end):
    """The formula, pair by pair."""
    offsets, item = log.sequences.offsets, log.sequences.item_index
    taken = []
    for first, last in pairwise(offsets):
        counted = [event for event in range(first, last) if known[event]][-settings.events :]
        taken.append({item[event] for event in counted})
    vectors = log.item_embeddings / np.linalg.norm(log.item_embeddings, axis=1, keepdims=True)
    history = item[max(offsets[user], end - settings.events) : end][::-1]
    scores = np.zeros(log.items.height)
    for target in range(log.items.height):
        for place, event in enumerate(history):
            both = sum({target, event} <= items for items in taken) if target != event else 0
            users = [sum(one in items for items in taken) for one in (target, event)]
            alike = max(0, vectors[target] @ vectors[event]) ** 3
            near = both / np.prod(users) ** settings.popularity_power if both else 0
            scores[target] += settings.recency**place * (near + settings.text_weight * alike)
    return scores


@given(
    interaction_tables().map(log_of).map(with_vectors),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.sampled_from([0.0, 1.5]),
    st.integers(0, 3),
)
def test_scores_are_those_of_the_formula(log, events, power, text_weight, seed):
    settings = config(events=events, popularity_power=power, text_weight=text_weight)
    random = np.random.default_rng(seed)
    known = random.random(len(log.sequences.item_index)) < 0.7
    neighbours = ItemNeighbours(log, settings, known)
    for user, (first, last) in enumerate(pairwise(log.sequences.offsets)):
        end = random.integers(first, last + 1)
        expected = scores_by_hand(log, settings, known, user, end)
        np.testing.assert_allclose(neighbours.scores(user, end), expected, atol=1e-5)


def test_pairs_have_the_scores_of_their_moments(log):
    neighbours = ItemNeighbours(log, config(text_weight=1.0))
    pairs = log.samples.select("user_index", "item_index", "history_end", "timestamp").sample(fraction=1, shuffle=True)
    expected = [
        neighbours.scores(user, end)[item]
        for user, item, end in pairs.select("user_index", "item_index", "history_end").iter_rows()
    ]
    assert neighbours.score(pairs).tolist() == expected


def all_near(neighbours):
    likeness = np.zeros((neighbours.items, neighbours.items), dtype=np.float32)
    for row, (near, weights) in zip(likeness, neighbours.nearest(np.arange(neighbours.items)), strict=True):
        row[near] = weights
    return likeness


@pytest.mark.parametrize("nearest", [1, 3])
def test_the_nearest_items_alone_are_kept_whatever_is_counted_at_once(log, nearest, monkeypatch):
    whole, few = (all_near(ItemNeighbours(log, config(events=7, nearest=most))) for most in (100, nearest))
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 30)
    parts = all_near(ItemNeighbours(log, config(events=7, nearest=nearest)))
    np.testing.assert_array_equal(few, parts)
    assert ((few > 0).sum(axis=1) == np.minimum((whole > 0).sum(axis=1), nearest)).all()
    for kept, each in zip(few, whole, strict=True):
        assert set(kept[kept > 0]) <= set(each)
        assert kept[kept > 0].min() >= np.where(kept > 0, 0, each).max()


@pytest.mark.parametrize("text_weight", [0.0, 1.0])
def test_reasons_are_the_parts_of_a_score_greatest_first(log, text_weight):
    neighbours, end = ItemNeighbours(log, config(text_weight=text_weight)), log.sequences.offsets[2] + 4
    items = np.arange(neighbours.items)
    taken = set(log.sequences.item_index[log.sequences.offsets[2] : end].tolist())
    reasons = neighbours.reasons(2, end, items, most=100)
    assert all(set(events.tolist()) <= taken and (np.diff(weights) <= 0).all() for events, weights in reasons)
    sums = [weights.sum() for _, weights in reasons]
    np.testing.assert_allclose(sums, neighbours.scores(2, end), rtol=1e-5)
    assert [events.tolist()[:1] for events, _ in reasons] == [
        events.tolist() for events, _ in neighbours.reasons(2, end, items, most=1)
    ]


def test_nothing_later_is_read(log):
    """Neither events of the user behind the moment, nor others that are not known."""
    offsets, item = log.sequences.offsets, log.sequences.item_index
    known = np.arange(len(item)) % 2 == 0
    end = offsets[2] + 3
    changed = np.where(known | (np.arange(len(item)) < end), item, 0)
    other = replace(log, sequences=replace(log.sequences, item_index=changed))
    one, two = (ItemNeighbours(each, config(), known).scores(2, end) for each in (log, other))
    np.testing.assert_array_equal(one, two)
    assert one.any()


def test_no_event_is_near_to_nothing(log):
    assert not ItemNeighbours(log, config(text_weight=1.0)).scores(1, log.sequences.offsets[1]).any()


def test_the_power_and_the_weight_that_rank_validation_likes_best_are_taken():
    """Each item is followed by the next of a circle; the items of validation likes are exchanged for their twins."""
    log = circle_log()
    sequences, is_later = log.sequences, log.sequences.timestamp >= 3
    twin = np.where(is_later, (sequences.item_index + 9) % 20, sequences.item_index).astype(np.int32)
    samples = log.samples.with_columns(item_index=pl.Series(twin[log.samples["event"]]))
    twins = replace(log, sequences=replace(sequences, item_index=twin), samples=samples)
    angle = 2 * np.pi * np.arange(21) / 10
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # of an item and its twin, 10 apart, the same
    tried = {"tried_text_weights": (1.0,), "tried_popularity_powers": (5.0,), "validation_likes": 500}
    told = [twins.with_embeddings(vectors), log.with_embeddings(np.ones((21, 1))), log]
    assert [chosen(each, config(**tried)).text_weight for each in told] == [1.0, 0.0, 0.0]
    assert chosen(log, config(**tried)).popularity_power == 0.5
    nobody = replace(log, samples=log.samples.filter(split="train"))
    assert chosen(nobody, config(**tried)) == config(**tried)
