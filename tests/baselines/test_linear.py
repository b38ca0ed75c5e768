import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reclora_kedro.baselines.ease import item_weights
from reclora_kedro.baselines.linear import LinearConfig, LinearModel, LinearSettings
from scipy.sparse import csr_array

from circle_log import circle_log
from live_service import block
from random_logs import interaction_tables, log_of
from reclora_kedro.baselines import base, linear
from reclora_kedro.history.fields import describe_items
from reclora_kedro.llm.item_vectors import tfidf_vectors


def config(**changes):
    return LinearConfig.model_validate(block("recommendation", "linear", **changes))


def ease_by_lagrange(taken, regularization):
    """Each column by itself, with a multiplier that holds the diagonal at zero."""
    items = taken.shape[1]
    columns = []
    for item in range(items):
        unit = np.eye(items)[:, [item]]
        system = np.block([[taken.T @ taken + regularization * np.eye(items), unit], [unit.T, np.zeros((1, 1))]])
        columns.append(np.linalg.solve(system, np.append(taken.T @ taken[:, item], 0))[:items])
    return np.stack(columns, axis=1)


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from([0.5, 20.0]))
def test_ease_is_the_regression_whose_diagonal_is_held_at_zero(seed, regularization):
    taken = (np.random.default_rng(seed).random((40, 12)) < 0.3).astype(float)
    taken[:, 3] = 0
    weights = item_weights(csr_array(taken), regularization)
    np.testing.assert_allclose(weights, ease_by_lagrange(taken, regularization), atol=1e-5)


def test_weights_of_more_rows_than_are_mirrored_at_once_are_the_same(monkeypatch):
    taken = csr_array((np.random.default_rng(0).random((30, 10)) < 0.4).astype(float))
    whole = item_weights(taken, 2.0)
    monkeypatch.setattr("reclora_kedro.baselines.ease.ROWS_AT_ONCE", 3)
    np.testing.assert_array_equal(item_weights(taken, 2.0), whole)


def scores_by_hand(log, of, most, user, end):
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
    weights = ease_by_lagrange(taken, of.regularization)
    weights += of.transition_weight * transitions / np.sqrt(np.outer(users, users))
    texts = tfidf_vectors(describe_items(log.items))[0].toarray()
    weights += of.text_weight * (texts @ texts.T) ** of.text_power
    start, scores = max(sequences.offsets[user], end - most), np.zeros(items)
    for event in range(start, end):
        same = np.flatnonzero(sequences.timestamp[start:end] == sequences.timestamp[event]) + start
        scores += of.recency ** np.mean(end - 1 - same) * weights[sequences.item_index[event]]
    return scores


@settings(max_examples=15)
@given(interaction_tables().map(log_of), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.5]), st.integers(0, 9))
def test_scores_are_those_of_the_formula(log, directed, within_moments, text_weight, seed):
    of = LinearSettings(
        regularization=2.0, recency=0.8, transition_weight=0.5, directed=directed, within_moments=within_moments,
        text_weight=text_weight, text_power=2.0,
    )  # fmt: skip
    model = LinearModel.fit(log, of, config(events=4))
    random, items = np.random.default_rng(seed), log.items.height
    end = random.integers(log.sequences.starts, log.sequences.ends + 1)
    users = np.arange(len(end))
    pairs = pl.DataFrame({"user_index": users, "history_end": end}).join(
        pl.DataFrame({"item_index": range(items)}), how="cross"
    )
    expected = [scores_by_hand(log, of, 4, user, end[user]) for user in users]
    np.testing.assert_allclose(model.score(pairs).reshape(-1, items), expected, atol=1e-5)


def test_likes_of_the_validation_split_choose_directed_transitions_where_items_follow_one_another():
    log = circle_log()
    chosen = LinearModel.chosen(log, config(recencies=[1.0])).settings
    assert chosen.directed
    assert chosen.transition_weight > 0


def test_neither_the_choice_nor_the_model_reads_what_is_later_than_the_training_events_and_the_validation_likes():
    log = circle_log()
    is_test = log.sequences.timestamp == 4
    item = np.where(is_test, 20 - log.sequences.item_index, log.sequences.item_index).astype(np.int32)
    other = replace(log, sequences=replace(log.sequences, item_index=item))
    one, two = (LinearModel.chosen(each, config(recencies=[1.0])) for each in (log, other))
    assert one.settings == two.settings
    np.testing.assert_array_equal(one.together, two.together)
    np.testing.assert_array_equal(one.following.toarray(), two.following.toarray())


def test_above_a_number_of_items_neighbours_stand_in_for_ease_and_that_is_said(caplog):
    log, settings = circle_log(), LinearSettings(regularization=1.0, recency=0.8)
    caplog.set_level(logging.WARNING)
    model = LinearModel.fit(log, settings, config(max_items=20))
    assert "The log has 21 items, and linear.max_items is 20: item_knn takes the place of ease" in caplog.text
    both = np.isin(model.sequences.item_index.reshape(150, 5), [3, 4]).sum(axis=1) == 2
    users = np.bincount(model.sequences.item_index, minlength=21)
    assert model.together[3, 4] == pytest.approx(both.sum() / np.sqrt(users[3] * users[4]))
    assert model.together.diagonal().max() == 0


def test_blocks_of_few_scores_choose_and_give_the_same(monkeypatch):
    log = circle_log()
    chosen = [LinearModel.chosen(log, config(max_items=20, recencies=[0.8]))]
    for module in (base, linear):
        monkeypatch.setattr(module, "SCORES_AT_ONCE", 3 * 21)
    chosen.append(LinearModel.chosen(log, config(max_items=20, recencies=[0.8])))
    assert chosen[0].settings == chosen[1].settings
    np.testing.assert_array_equal(*[model.together.toarray() for model in chosen])


def test_without_validation_likes_the_first_settings_are_taken():
    log = circle_log()
    log = replace(log, samples=log.samples_in("train"))
    chosen = LinearModel.chosen(log, config(recencies=[0.9, 0.5])).settings
    assert chosen == LinearSettings(regularization=30.0, recency=0.9)
