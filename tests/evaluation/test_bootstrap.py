"""Means over users and seeds with Student's intervals, and p-values of several tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student_t

from reclora_kedro.evaluation.bootstrap import Bootstrap, Estimate, holm

BOOTSTRAP = Bootstrap(confidence=0.95, seed=0)


@pytest.mark.parametrize("users", [8, 400])
def test_the_bootstrap_finds_the_standard_error_of_a_mean(users):
    values = np.random.default_rng(0).normal(size=(users, 2))
    means = BOOTSTRAP.means(values)
    assert means.value == pytest.approx(values.mean(axis=0))
    assert means.standard_error == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(users), rel=0.05)
    low, high = means.interval(0.95)
    half_width = student_t.ppf(0.975, users - 1) * means.standard_error
    assert (low == means.value - half_width).all()
    assert (high == means.value + half_width).all()


def test_every_column_is_of_the_same_users():
    values = np.random.default_rng(0).random((30, 1))
    difference = BOOTSTRAP.means(np.concatenate([values, values + 1], axis=1))
    assert difference.standard_error[0] == pytest.approx(difference.standard_error[1])


def test_values_that_are_all_the_same_have_no_interval():
    low, high = BOOTSTRAP.means(np.ones((5, 1))).interval(0.95)
    assert (low, high) == (1, 1)


@pytest.mark.parametrize("seeds", [2, 5])
def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say(seeds):
    random = np.random.default_rng(1)
    intervals = (Estimate.from_sample(random.normal(size=seeds)).interval(0.9) for _ in range(4000))
    assert np.mean([low <= 0 <= high for low, high in intervals]) == pytest.approx(0.9, abs=0.015)


def test_holm_by_hand():
    # In ascending order: 0.005 * 4, 0.01 * 3, 0.03 * 2 and 0.04 * 1, which must not fall below 0.06.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.9])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_raises_p_values_at_most_by_their_number(p_values: list[float]):
    raw = np.array(p_values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(raw) * raw)).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
