from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circle_log import circle_log
from random_logs import interaction_tables, log_of
from reclora_kedro.candidates import item_knn as module
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnConfig, ItemKnnSettings, NearestByTexts
from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.history.taken_items import draw_positives


def fit(log, known=None, **settings):
    training = Training.from_log(log) if known is None else Training(log, known)
    return training, ItemKnn.fit(training, ItemKnnSettings(**settings))


def moments_at(training, user, end):
    frame = pl.DataFrame({"user_index": user, "history_end": end, "timestamp": np.zeros(len(end), dtype=np.int64)})
    return training.moments(frame)


def dense(model, training, user, end):
    return model.scores(moments_at(training, user, end)).toarray()


def with_vectors(log):
    return log.with_embeddings(np.random.default_rng(0).normal(size=(log.items.height, 4)))


def scores_by_hand(log, settings, events, known, user, end):
    """The formula, pair by pair, with the events' order within a second left out."""
    offsets, item, second = log.sequences.offsets, log.sequences.item_index, log.sequences.timestamp
    taken = []
    for first, last in pairwise(offsets):
        counted = [event for event in range(first, last) if known[event]][-events:]
        taken.append({item[event] for event in counted})
    vectors = log.item_embeddings / np.linalg.norm(log.item_embeddings, axis=1, keepdims=True)
    history = np.arange(max(offsets[user], end - events), end)
    scores = np.zeros(log.items.height)
    for target in range(log.items.height):
        for one in history:
            event, together = item[one], history[second[history] == second[one]]
            both = sum({target, event} <= items for items in taken) if target != event else 0
            users = [sum(each in items for items in taken) for each in (target, event)]
            alike = max(0, vectors[target] @ vectors[event]) ** 3
            near = both / np.prod(users) ** settings.popularity_power if both else 0
            scores[target] += 0.8 ** np.mean(end - 1 - together) * (near + settings.text_weight * alike)
    return scores


@given(
    interaction_tables().map(log_of).map(with_vectors),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.sampled_from([0.0, 1.5]),
    st.integers(0, 3),
)
def test_scores_are_those_of_the_formula(log, events, power, text_weight, seed):
    random = np.random.default_rng(seed)
    known = random.random(len(log.sequences.item_index)) < 0.7
    users, end = np.arange(4), random.integers(log.sequences.starts, log.sequences.ends + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVENTS", events)
        training, model = fit(log, known, popularity_power=power, text_weight=text_weight)
        scores = dense(model, training, users, end)
    expected = [scores_by_hand(log, model.settings, events, known, user, end[user]) for user in users]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@given(interaction_tables().map(log_of).map(with_vectors), st.integers(0, 99), st.sampled_from([0, 2, 2**14]))
def test_with_changed_users_it_counts_as_if_fitted_to_their_events(log, seed, most_changes):
    random, events = np.random.default_rng(seed), log.sequences
    changed = np.flatnonzero(random.random(4) < 0.5)
    item = np.where(np.isin(Training.from_log(log).user, changed), 4 - events.item_index, events.item_index)
    other = replace(log, sequences=replace(events, item_index=item.astype(np.int32)))
    training, model = fit(log, text_weight=0.5)
    users, end = np.arange(4), random.integers(events.starts, events.ends + 1)
    dense(model, training, users, end)  # rows of items are counted before
    anew = fit(other, text_weight=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_CHANGES", most_changes)
        grown = [model.with_events(other, changed), model.with_events(log).with_events(other)]
    for each in grown:
        expected = dense(anew[1], anew[0], users, end)
        np.testing.assert_allclose(dense(each, anew[0], users, end), expected, atol=1e-5)


def test_counts_stay_those_of_their_log_beside_counts_of_a_log_that_grew(log):
    items, first = np.arange(log.items.height), slice(*log.sequences.offsets[:2])
    counts, item = module.SharedUsers(log.sequences, len(items)), log.sequences.item_index.copy()
    before = [shared.tolist() for _, shared in counts.rows(items).values()]
    item[first] = 0
    grown = counts.with_events(replace(log.sequences, item_index=item), np.array([0]))
    assert [shared.tolist() for _, shared in counts.rows(items).values()] == before
    assert [shared.tolist() for _, shared in grown.rows(items).values()] != before


def all_near(log, nearest, monkeypatch):
    monkeypatch.setattr(module, "NEAREST", nearest)
    _, model = fit(log)
    likeness = np.zeros((log.items.height, log.items.height), dtype=np.float32)
    for item, row in enumerate(likeness):
        items, weights = model.nearest(item)
        row[items] = weights
    return likeness


@pytest.mark.parametrize("nearest", [1, 3])
def test_the_nearest_items_alone_are_kept_whatever_is_counted_at_once(log, nearest, monkeypatch):
    whole, few = (all_near(log, most, monkeypatch) for most in (100, nearest))
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 30)
    np.testing.assert_array_equal(few, all_near(log, nearest, monkeypatch))
    assert ((few > 0).sum(axis=1) == np.minimum((whole > 0).sum(axis=1), nearest)).all()
    for kept, each in zip(few, whole, strict=True):
        assert set(kept[kept > 0]) <= set(each)
        assert kept[kept > 0].min() >= np.where(kept > 0, 0, each).max()


@pytest.mark.parametrize("text_weight", [0.0, 1.0])
def test_reasons_are_the_greatest_parts_of_a_score_without_those_that_hardly_add_to_it(log, text_weight):
    training, model = fit(log, text_weight=text_weight)
    end, items = log.sequences.offsets[2] + 12, np.arange(log.items.height)
    moments = moments_at(training, [2], [end])
    [scores], history = model.scores(moments).toarray(), log.sequences.item_index[log.sequences.offsets[2] : end]
    reasons = model.reasons(moments, 0, items, limit=100)
    for item, (events, weights) in zip(items.tolist(), reasons, strict=True):
        assert (np.diff(weights) <= 0).all()
        assert (weights >= 0.1 * scores[item]).all()
        near = {event: dict(zip(*model.nearest(event), strict=True)).get(item, 0.0) for event in history.tolist()}
        parts = {event: near[event] * 0.8**place for place, event in enumerate(history[::-1].tolist())}
        assert sum(parts.values()) == pytest.approx(scores[item], rel=1e-4)
        assert dict(zip(events.tolist(), weights.tolist(), strict=True)) == pytest.approx(
            {event: part for event, part in parts.items() if part > 0 and part >= 0.1 * scores[item]}, rel=1e-4
        )
    assert [events.tolist()[:1] for events, _ in reasons] == [
        events.tolist() for events, _ in model.reasons(moments, 0, items, limit=1)
    ]
    assert max(len(events) for events, _ in reasons) > 1


def test_nothing_later_is_read(log):
    """Neither events of the user behind the moment, nor others that are not known."""
    offsets, item = log.sequences.offsets, log.sequences.item_index
    known = np.arange(len(item)) % 2 == 0
    end = offsets[2] + 3
    changed = np.where(known | (np.arange(len(item)) < end), item, 0)
    other = replace(log, sequences=replace(log.sequences, item_index=changed))
    one, two = (dense(*fit(each, known)[::-1], [2], [end]) for each in (log, other))
    np.testing.assert_array_equal(one, two)
    assert one.any()


def test_the_power_and_the_weight_that_rank_validation_likes_best_are_taken():
    """Each item is followed by the next of a circle; the items of validation likes are exchanged for their twins."""
    log = circle_log()
    sequences, is_later = log.sequences, log.sequences.timestamp >= 3
    twin = np.where(is_later, (sequences.item_index + 9) % 20, sequences.item_index).astype(np.int32)
    samples = log.samples.with_columns(item_index=pl.Series(twin[log.samples["event"]]))
    twins = replace(log, sequences=replace(sequences, item_index=twin), samples=samples)
    angle = 2 * np.pi * np.arange(21) / 10
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # of an item and its twin, 10 apart, the same
    config = ItemKnnConfig(popularity_powers=(0.5, 5.0), text_weights=(0.0, 1.0))

    def chosen(log):
        likes = draw_positives(log, "validation", None, 0)
        return choose_settings(ItemKnn, Training.from_split(log), config, likes)

    told = [twins.with_embeddings(vectors), log.with_embeddings(np.ones((21, 1))), log]
    assert [chosen(each).text_weight for each in told] == [1.0, 0.0, 0.0]
    assert chosen(log).popularity_power == 0.5


def test_cosines_of_texts_have_the_same_bits_whatever_items_are_asked_for_together():
    vectors = np.random.default_rng(0).normal(size=(203, 33)).astype(np.float32)
    together = NearestByTexts(vectors).rows(np.arange(203))
    one_by_one = NearestByTexts(vectors)
    for item, expected in enumerate(together):
        [own] = one_by_one.rows(np.array([item]))
        assert all(np.array_equal(*pair) for pair in zip(own, expected, strict=True))


def test_a_block_of_items_is_compared_once_and_the_same_where_few_of_it_are_kept(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(21, 6))
    whole = NearestByTexts(vectors)
    first = whole.rows(np.array([17, 3]))
    assert {*whole._near} == {*range(8), *range(16, 21)}
    monkeypatch.setattr(module, "PAIRS_KEPT", 0)
    few = NearestByTexts(vectors)
    for (others, weights), (same, alike) in zip(first, few.rows(np.array([17, 3])), strict=True):
        np.testing.assert_array_equal(others, same)
        np.testing.assert_array_equal(weights, alike)
    assert {*few._near} == {3, 17}
