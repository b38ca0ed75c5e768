"""AUC against scikit-learn, DeLong against the U-statistic written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import compare_models, delong_estimate, placements


@st.composite
def paired_scores(draw: st.DrawFn, models: int = 2) -> PairedScores:
    """Few distinct scores, so that most are tied within and between the classes."""
    labels = [True, True, False, False, *draw(st.lists(st.booleans(), max_size=40))]
    levels = draw(st.integers(1, 50))
    score = st.integers(0, levels).map(lambda level: level / levels)
    scores = draw(
        st.lists(st.lists(score, min_size=len(labels), max_size=len(labels)), min_size=models, max_size=models)
    )
    return PairedScores(("a", "b", "c")[:models], np.array(labels), np.array(scores))


def plain_delong(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance, every like compared with every dislike, O(likes x dislikes)."""
    likes, dislikes = scores[:, labels], scores[:, ~labels]
    kernel = (likes[:, :, None] > dislikes[:, None, :]) + 0.5 * (likes[:, :, None] == dislikes[:, None, :])
    covariance = np.cov(kernel.mean(axis=2)) / likes.shape[1] + np.cov(kernel.mean(axis=1)) / dislikes.shape[1]
    return kernel.mean(axis=(1, 2)), covariance


@given(paired_scores())
def test_auc_is_that_of_scikit_learn(paired: PairedScores):
    auc = delong_estimate(placements(paired.labels, paired.scores)).value
    assert auc == pytest.approx([roc_auc_score(paired.labels, scores) for scores in paired.scores], abs=1e-12)


@given(paired_scores())
def test_standard_errors_are_those_of_the_plain_u_statistic(paired: PairedScores):
    value, covariance = plain_delong(paired.labels, paired.scores)
    auc = delong_estimate(placements(paired.labels, paired.scores))
    assert auc.value == pytest.approx(value, abs=1e-12)
    assert auc.standard_error**2 == pytest.approx(np.diag(covariance), abs=1e-12)


@given(paired_scores(), st.sampled_from([0.9, 0.95, 0.99]))
def test_a_difference_is_that_of_the_plain_u_statistic(paired: PairedScores, confidence: float):
    value, covariance = plain_delong(paired.labels, paired.scores)
    [pair] = compare_models(paired, confidence)
    assert (pair["model_a"], pair["model_b"]) == ("b", "a")
    difference = value[1] - value[0]
    error = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    half_width = norm.ppf((1 + confidence) / 2) * error
    assert pair["auc_difference"] == pytest.approx(difference, abs=1e-12)
    assert [pair["low"], pair["high"]] == pytest.approx([difference - half_width, difference + half_width], abs=1e-6)
    if error > 1e-6:
        assert pair["p_value"] == pytest.approx(2 * norm.sf(abs(difference) / error), abs=1e-6)


@given(paired_scores(models=1))
def test_identical_models_do_not_differ(paired: PairedScores):
    [pair] = compare_models(PairedScores(("a", "b"), paired.labels, paired.scores[[0, 0]]), 0.95)
    assert (pair["auc_difference"], pair["low"], pair["high"], pair["p_value"]) == (0, 0, 0, 1)


@given(paired_scores())
def test_swapping_the_models_turns_the_sign(paired: PairedScores):
    [pair] = compare_models(paired, 0.95)
    [swapped] = compare_models(PairedScores(paired.models, paired.labels, paired.scores[::-1]), 0.95)
    assert swapped["auc_difference"] == -pair["auc_difference"]
    assert (swapped["low"], swapped["high"]) == (-pair["high"], -pair["low"])
    assert swapped["p_value"] == pair["p_value"]


@given(paired_scores())
def test_only_the_order_of_scores_matters(paired: PairedScores):
    # The strategy's scores are far enough apart to stay distinct in floating point under these transforms.
    for transform in (np.sqrt, lambda scores: scores / 4, lambda scores: scores**3):
        transformed = PairedScores(paired.models, paired.labels, transform(paired.scores))
        assert compare_models(transformed, 0.95) == compare_models(paired, 0.95)


def test_every_pair_is_compared_later_model_first():
    rng = np.random.default_rng(0)
    paired = PairedScores(("lens", "shared_lora", "reclora"), np.arange(20) % 2 == 0, rng.random((3, 20)))
    pairs = [(pair["model_a"], pair["model_b"]) for pair in compare_models(paired, 0.95)]
    assert pairs == [("shared_lora", "lens"), ("reclora", "lens"), ("reclora", "shared_lora")]


def test_one_model_has_no_pairs():
    assert compare_models(PairedScores(("lens",), np.arange(6) % 2 == 0, np.zeros((1, 6))), 0.95) == []


def test_a_reversed_perfect_ranking_is_beyond_chance():
    labels = np.array([True, True, False, False])
    [pair] = compare_models(PairedScores(("a", "b"), labels, np.array([labels, ~labels], dtype=float)), 0.95)
    assert (pair["auc_difference"], pair["p_value"]) == (-1, 0)


def test_the_interval_covers_the_true_auc_at_its_level():
    rng = np.random.default_rng(7)
    true_auc = norm.cdf(1 / np.sqrt(2))  # unit normals one apart
    labels = np.arange(200) < 100
    scores = rng.normal(size=(2000, 200)) + labels
    low, high = delong_estimate(placements(labels, scores)).interval(0.95)
    assert np.mean((low <= true_auc) & (true_auc <= high)) == pytest.approx(0.95, abs=0.015)
