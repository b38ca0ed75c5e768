import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import compute_metrics, grouped_auc
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import bootstrap_auc

LABELS = np.array([True, True, False, False])


def paired(models: tuple[str, ...], scores: np.ndarray, labels: np.ndarray = LABELS) -> PairedScores:
    """Scores of rows of half as many users."""
    rows = np.arange(len(labels))
    return PairedScores(models, rows, rows % (len(labels) // 2), labels, scores)


def measure(pair: PairedScores, confidence: float = 0.95) -> list[dict]:
    bootstrap = Bootstrap(confidence=confidence, samples=200, seed=0)
    return compute_metrics(pair, bootstrap_auc(pair, bootstrap), confidence)


def test_one_record_per_model():
    scores = np.array([[0.9, 0.4, 0.6, 0.1], [0.5, 0.5, 0.5, 0.5]])
    lens, constant = measure(paired(("lens", "constant"), scores))
    assert list(lens) == [
        "model", "rows", "positives", "users", "auc", "auc_low", "auc_high", "confidence", "gauc", "log_loss",
        "accuracy",
    ]  # fmt: skip
    assert [lens[name] for name in ("model", "rows", "positives", "users", "auc")] == ["lens", 4, 2, 2, 0.75]
    assert lens["auc_low"] < 0.75 < lens["auc_high"] <= 1
    assert lens["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.4, 0.9])))
    assert lens["accuracy"] == 0.5
    # The pairs of rows of one user are (0.9, 0.6) and (0.4, 0.1): each user's likes are on top.
    assert lens["gauc"] == 1
    # 0.5 counts as a predicted like.
    assert (constant["auc"], constant["gauc"], constant["accuracy"]) == (0.5, 0.5, 0.5)
    assert constant["log_loss"] == pytest.approx(np.log(2))


def test_sure_mistakes_stay_finite():
    [record] = measure(paired(("wrong",), 1 - LABELS[None].astype(float)))
    assert np.isfinite(record["log_loss"])
    assert (record["auc"], record["auc_low"], record["auc_high"]) == (0, 0, 0)


def test_a_higher_level_widens_the_interval():
    pair = paired(("lens",), np.random.default_rng(0).random((1, 100)), np.arange(100) % 3 == 0)
    [narrow], [wide] = measure(pair, 0.9), measure(pair, 0.99)
    assert wide["auc_low"] < narrow["auc_low"] < narrow["auc"] < narrow["auc_high"] < wide["auc_high"]
    assert (narrow["confidence"], wide["confidence"]) == (0.9, 0.99)


def test_gauc_is_the_mean_of_the_users_aucs_weighted_by_their_rows():
    random = np.random.default_rng(0)
    users, labels, scores = random.integers(12, size=80), random.random(80) < 0.3, random.integers(5, size=80) / 5
    of_user = {user: users == user for user in range(12)}
    mixed = [rows for rows in of_user.values() if 0 < labels[rows].sum() < rows.sum()]
    assert len(mixed) < len(of_user)
    expected = sum(rows.sum() * roc_auc_score(labels[rows], scores[rows]) for rows in mixed)
    assert grouped_auc(users, labels, scores) == pytest.approx(expected / sum(rows.sum() for rows in mixed))


def test_there_is_no_gauc_where_each_user_has_one_class():
    assert grouped_auc(np.array([0, 0, 1, 1]), LABELS, np.array([0.9, 0.8, 0.1, 0.2])) is None


def test_gauc_ignores_what_tells_users_apart():
    users, labels = np.arange(60) // 6, np.random.default_rng(0).random(60) < 0.5
    scores = np.random.default_rng(1).random(60)
    assert grouped_auc(users, labels, scores + 10 * users) == pytest.approx(grouped_auc(users, labels, scores))
