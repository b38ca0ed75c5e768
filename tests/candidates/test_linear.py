from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from circle_log import circle_log
from random_logs import interaction_tables, log_of
from reclora_kedro.candidates import linear, sparse_ease
from reclora_kedro.candidates import transitions as module
from reclora_kedro.candidates.ease import WordWeights, item_weights
from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.candidates.linear import Linear, LinearConfig, LinearSettings
from reclora_kedro.candidates.sparse_ease import sparse_item_weights
from reclora_kedro.candidates.transitions import Follows, follows, greatest, transitions
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.llm.item_vectors import tfidf_vectors


def chosen(log, **changes):
    values = {
        "regularizations": (30, 300),
        "recencies": (1.0,),
        "text_weights": (0.8,),
        "transition_weights": (0.5, 2.0),
    }
    config = LinearConfig.model_validate({**values, "max_items": 20_000, **changes})
    return choose_settings(Linear, Training.from_split(log), config, draw_positives(log, "validation", None, 0))


def scores_of(log, settings, ends=None):
    """Scores of all items for every user, after all events or a number of them."""
    training, events = Training.from_split(log), log.sequences
    end = events.ends if ends is None else ends
    frame = pl.DataFrame({"user_index": np.arange(len(end)), "history_end": end, "timestamp": np.zeros_like(end)})
    scores = Linear.fit(training, settings).scores(training.moments(frame))
    return scores if isinstance(scores, np.ndarray) else scores.toarray()


def ease_by_lagrange(taken, regularization, prior=None):
    """Each column by itself, with a multiplier that holds the diagonal at zero."""
    items = taken.shape[1]
    columns, near = [], taken.T @ taken + (0 if prior is None else regularization * prior)
    for item in range(items):
        unit = np.eye(items)[:, [item]]
        system = np.block([[taken.T @ taken + regularization * np.eye(items), unit], [unit.T, np.zeros((1, 1))]])
        columns.append(np.linalg.solve(system, np.append(near[:, item], 0))[:items])
    return np.stack(columns, axis=1)


@given(st.integers(0, 99), st.sampled_from([0.5, 20.0]), st.sampled_from([0.0, 0.8]))
def test_ease_is_the_regression_near_a_prior_whose_diagonal_is_held_at_zero(seed, regularization, strength):
    random = np.random.default_rng(seed)
    taken, prior = (random.random((40, 12)) < 0.3).astype(float), strength * random.normal(size=(12, 12))
    taken[:, [0, 3]] = 0  # nobody took these
    np.fill_diagonal(prior, 0)
    weights = item_weights(csr_array(taken), regularization, prior if strength else None)
    np.testing.assert_allclose(weights, ease_by_lagrange(taken, regularization, prior), atol=1e-5)
    assert not weights.diagonal().any()
    near = item_weights(csr_array(taken), 1e7, prior.astype(np.float32))
    np.testing.assert_allclose(near, prior, atol=1e-4)


def test_weights_of_more_rows_than_are_mirrored_at_once_are_the_same(monkeypatch):
    taken = csr_array((np.random.default_rng(0).random((30, 10)) < 0.4).astype(float))
    prior = item_weights(taken, 0.5)
    whole = item_weights(taken, 2.0, prior)
    monkeypatch.setattr("reclora_kedro.candidates.ease.ROWS_AT_ONCE", 3)
    np.testing.assert_allclose(item_weights(taken, 2.0, prior), whole, atol=1e-6)


@given(st.integers(0, 99), st.integers(1, 15), st.sampled_from([0.05, 0.3, 1.0]))
def test_weights_of_words_as_a_product_are_the_same(seed, words, share):
    random = np.random.default_rng(seed)
    texts = csr_array((random.random((words, 12)) * (random.random((words, 12)) < share)).astype(np.float32))
    learned, whole = WordWeights.learned(texts, 10.0), item_weights(texts, 10.0)
    assert isinstance(learned, np.ndarray) == (np.count_nonzero(np.diff(texts.indptr) > 1) > 12)
    taken = csr_array((random.random((40, 12)) < 0.3).astype(np.float32))
    prior = np.float32(0.7) * whole
    np.testing.assert_allclose(
        item_weights(taken, 5.0, learned * np.float32(0.7)), item_weights(taken, 5.0, prior), atol=1e-5
    )


def scores_by_hand(log, of, limit, user, end):
    """The formula, event by event, with the events' order within a second left out."""
    sequences, items = log.sequences, log.items.height
    taken = np.zeros((len(sequences.starts), items))
    transitions = np.zeros((items, items))
    for owner, (first, last) in enumerate(pairwise(sequences.offsets)):
        taken[owner, sequences.item_index[first:last]] = 1
        seconds = np.unique(sequences.timestamp[first:last], return_inverse=True)[1]
        for one in range(first, last):
            for other in range(first, last):
                apart = seconds[other - first] - seconds[one - first]
                i, j = sequences.item_index[[one, other]]
                if i == j or apart > 5 or apart < (-5 if not of.directed else 0):
                    continue
                if apart != 0 or of.within_moments:
                    transitions[i, j] += 0.7 ** max(abs(apart) - 1, 0)
    users = np.maximum(taken.sum(axis=0), 1)
    alike = ease_by_lagrange(tfidf_vectors(describe_items(log.items))[0].toarray().T, 10.0)
    weights = ease_by_lagrange(taken, of.regularization, of.text_weight * alike)
    weights += of.transition_weight * transitions / np.sqrt(np.outer(users, users))
    start, scores = max(sequences.offsets[user], end - limit), np.zeros(items)
    for event in range(start, end):
        same = np.flatnonzero(sequences.timestamp[start:end] == sequences.timestamp[event]) + start
        scores += of.recency ** np.mean(end - 1 - same) * weights[sequences.item_index[event]]
    return scores


@given(interaction_tables().map(log_of), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.8]), st.integers(0, 9))
def test_scores_are_those_of_the_formula(log, directed, within_moments, text_weight, seed):
    of = LinearSettings(
        regularization=2.0, recency=0.8, transition_weight=0.5, directed=directed, within_moments=within_moments,
        text_weight=text_weight,
    )  # fmt: skip
    end = np.random.default_rng(seed).integers(log.sequences.starts, log.sequences.ends + 1)
    training = Training.from_log(log)
    frame = pl.DataFrame({"user_index": range(4), "history_end": end, "timestamp": [9] * 4})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "EVENTS", 4)
        scores = Linear.fit(training, of).scores(training.moments(frame))
    expected = [scores_by_hand(log, of, 4, user, end[user]) for user in range(4)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_pairs_further_apart_count_where_all_nearer_ones_are_of_one_item():
    columns = {"item_index": np.array([0, 1, 0, 1]), "timestamp": np.arange(4)}
    events = Sequences.from_columns(np.array([0, 4]), **columns)
    found = follows(events, np.ones(4, dtype=bool), 2, window=5, decay=0.7)
    np.testing.assert_allclose(found.later.toarray(), [[0, 2 + 0.7**2], [1, 0]])
    assert not found.together.nnz


@given(st.integers(1, 6), st.integers(0, 99))
def test_an_item_keeps_the_greatest_of_its_transitions(limit, seed):
    random = np.random.default_rng(seed)
    weights = (random.permutation(36).reshape(6, 6) * (random.random((6, 6)) < 0.7)).astype(np.float32)
    kept = np.where(weights >= np.sort(weights, axis=1)[:, [-limit]], weights, 0)
    found = Follows(csr_array(weights), csr_array(weights.shape, dtype=np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_OF_ITEM", limit)
        made = transitions(found, np.ones(6), directed=True, within_moments=False)
    np.testing.assert_array_equal(made.toarray(), kept)
    np.testing.assert_array_equal(greatest(csr_array(-weights), limit).toarray(), -kept)


def test_likes_of_the_validation_split_choose_directed_transitions_where_items_follow_one_another():
    settings = chosen(circle_log())
    assert settings.directed
    assert settings.transition_weight > 0


def test_neither_the_choice_nor_the_model_reads_what_is_later_than_the_training_events_and_the_validation_likes():
    log = circle_log()
    is_test = log.sequences.timestamp == 4
    item = np.where(is_test, 20 - log.sequences.item_index, log.sequences.item_index).astype(np.int32)
    other = replace(log, sequences=replace(log.sequences, item_index=item))
    settings = chosen(log)
    assert settings == chosen(other)
    before = log.sequences.starts + 3
    np.testing.assert_array_equal(scores_of(log, settings, before), scores_of(other, settings, before))


@given(st.integers(0, 99), st.sampled_from([0.5, 20.0]), st.sampled_from([0.0, 0.8]), st.integers(0, 15))
def test_weights_by_blocks_that_hold_all_items_are_those_of_ease(seed, regularization, strength, heads):
    random = np.random.default_rng(seed)
    taken = csr_array((random.random((40, 14)) < random.random(14) * 0.5).astype(np.float32))
    prior = strength * random.normal(size=(14, 14)).astype(np.float32) * (random.random((14, 14)) < 0.4)
    np.fill_diagonal(prior, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ease, "HEADS", heads)
        patch.setattr(sparse_ease, "PAIRS_AT_ONCE", 14 * 3)
        patch.setattr(sparse_ease, "HEAD_PAIRS", 3 * max(1, heads))  # of some items alone
        weights = sparse_item_weights(taken, regularization, csr_array(prior) if strength else None)
    expected = item_weights(taken, regularization, prior if strength else None)
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-5)
    assert not weights.diagonal().any()


def test_of_a_long_history_a_few_items_tell_what_is_near(monkeypatch):
    monkeypatch.setattr(sparse_ease, "ITEMS_OF_ROW", 6)
    taken = csr_array(np.random.default_rng(0).random((50, 40)) * (np.arange(50)[:, None] > 4 * np.arange(40)))
    few = sparse_ease._few_of_each_row(taken)
    assert np.diff(few.indptr).tolist() == np.minimum(np.diff(taken.indptr), 6).tolist()
    rows, items = few.nonzero()
    assert (few[rows, items] == taken[rows, items]).all()
    assert items.max() > 8  # drawn, and not the first ones


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_where_blocks_hold_a_part_of_the_items_the_best_ones_are_nearly_those_of_ease(strength, monkeypatch):
    random = np.random.default_rng(0)
    group, taken = random.integers(5, size=400), random.random((400, 64)) < 0.02
    taken |= (np.arange(64) // 12 == group[:, None]) & (random.random((400, 64)) < 0.5)
    taken[:, 60:] = random.random((400, 4)) < 0.5  # everyone's
    prior = np.roll(np.eye(64, dtype=np.float32), 1, axis=1) * np.float32(strength)
    exact = item_weights(csr_array(taken), 10.0, prior)
    sizes = {"SOLVED": 12, "HEADS": 4, "ITEMS_OF_BLOCK": 36, "WEIGHTS_OF_ITEM": 20, "ITEMS_OF_ROW": 6}
    for name, value in sizes.items():
        monkeypatch.setattr(sparse_ease, name, value)
    weights = sparse_item_weights(csr_array(taken), 10.0, csr_array(prior)).toarray()
    assert np.count_nonzero(weights, axis=1).max() == 20
    best, of_exact = (np.argsort(-each, axis=1)[:, :5] for each in (weights, exact))
    assert np.mean([np.isin(*rows) for rows in zip(of_exact, best, strict=True)]) > 0.85


@pytest.mark.parametrize("text_weight", [0.0, 0.8])
def test_above_a_number_of_items_the_scores_are_sparse_and_those_of_the_formula(text_weight):
    log = circle_log()
    training, end = Training.from_log(log), log.sequences.starts + 2
    frame = pl.DataFrame({"user_index": np.arange(150), "history_end": end, "timestamp": np.zeros_like(end)})
    of = LinearSettings(regularization=2.0, text_weight=text_weight, transition_weight=0.5, max_items=20)
    model, moments = Linear.fit(training, of), training.moments(frame)
    scores = model.scores(moments)
    assert isinstance(scores, csr_array)
    of_products = [moments.latest(50, of.recency), *(term.weights for _, term in model.terms)]
    assert {matrix.indices.dtype for matrix in of_products} == {np.dtype(np.int32)}  # else each product copies weights
    expected = scores_by_hand(log, of, 50, 7, end[7])
    np.testing.assert_allclose(scores[[7]].toarray()[0], expected, atol=1e-5)


@pytest.mark.parametrize("max_items", [20_000, 20])
def test_learned_weights_are_taken_for_the_same_events_texts_and_settings_alone(max_items, monkeypatch):
    log, of = circle_log(), LinearSettings(regularization=2.0, text_weight=0.8, max_items=max_items)
    assert not Linear.fit(Training.from_log(log), of).learned()  # of few items
    monkeypatch.setattr(linear, "KEPT_FROM", 0)
    fitted = Linear.fit(Training.from_log(log), of)
    kept = {f"linear/{name}": np.array(values) for name, values in fitted.learned().items()}
    events, items = log.sequences, log.items
    renamed = items.with_columns(title=items["title"].reverse())
    swapped = replace(events, item_index=np.append(events.item_index[1:], events.item_index[:1]))
    learns, learned = list[bool](), linear._ease
    monkeypatch.setattr(linear, "_ease", lambda *arguments: learns.append(True) or learned(*arguments))
    again = Linear.fit(Training.from_log(log, learned=kept), of)
    assert not learns
    frame = pl.DataFrame({"user_index": [3], "history_end": events.ends[3:4], "timestamp": [0]})
    scores = [model.scores(Training.from_log(log).moments(frame)) for model in (fitted, again)]
    assert abs(scores[0] - scores[1]).max() == 0
    for changed, changed_settings in (
        (replace(log, sequences=swapped), of),
        (replace(log, items=renamed), of),
        (log, of.model_copy(update={"regularization": 3.0})),
        (log, of.model_copy(update={"text_weight": 0.5})),
    ):
        Linear.fit(Training.from_log(changed, learned=kept), changed_settings)
        assert learns.pop(), changed_settings
    Linear.fit(Training(log, log.training_events(), learned=kept), of)  # fewer events
    assert learns.pop()


def test_new_items_without_events_change_no_learned_weight_where_texts_have_none(monkeypatch):
    monkeypatch.setattr(linear, "KEPT_FROM", 0)
    log, of = circle_log(), LinearSettings(regularization=2.0)
    kept = {f"linear/{name}": each for name, each in Linear.fit(Training.from_log(log), of).learned().items()}
    new = log.items.tail(2).with_columns(item_id=pl.col("item_id") + 1000)
    grown = replace(log, items=pl.concat([log.items, new]))
    refitted = Linear.fit(Training.from_log(grown), of).learned()
    events, ease = log.sequences, linear._ease
    monkeypatch.setattr(linear, "_ease", lambda *arguments: pytest.fail("EASE was fitted again"))
    taken = Linear.fit(Training.from_log(grown, learned=kept), of).learned()
    assert {name: each.tolist() for name, each in taken.items()} == {n: each.tolist() for n, each in refitted.items()}
    learns = list[bool]()
    monkeypatch.setattr(linear, "_ease", lambda *arguments: learns.append(True) or ease(*arguments))
    of_new = replace(grown, sequences=replace(events, item_index=np.append(events.item_index[1:], log.items.height)))
    for changed, changed_settings in (
        (of_new, of),
        (grown, of.model_copy(update={"regularization": 3.0})),
        (grown, of.model_copy(update={"text_weight": 0.5})),
        (grown, of.model_copy(update={"max_items": log.items.height})),
    ):
        Linear.fit(Training.from_log(changed, learned=kept), changed_settings)
        assert learns.pop(), changed_settings


def test_blocks_of_few_scores_and_events_choose_and_give_the_same(monkeypatch):
    log, whole = circle_log(), []
    for at_once in (2**22, 3 * 21):
        monkeypatch.setattr(sparse_ease, "PAIRS_AT_ONCE", at_once)
        monkeypatch.setattr("reclora_kedro.candidates.transitions.EVENTS_AT_ONCE", at_once)
        monkeypatch.setattr("reclora_kedro.candidates.moments.SCORES_AT_ONCE", at_once)
        monkeypatch.setattr("reclora_kedro.candidates.moments.LEAST_AT_ONCE", 3)
        settings = chosen(log, max_items=20, recencies=[0.8])
        whole.append((settings, scores_of(log, settings).tolist()))
    assert whole[0] == whole[1]


def test_without_validation_likes_the_first_settings_are_taken():
    log = circle_log()
    log = replace(log, samples=log.samples_in("train"))
    settings = chosen(log, recencies=[0.9, 0.5], max_items=7)
    assert settings == LinearSettings(regularization=30.0, recency=0.9, max_items=7)
