import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import LEAST_USERS, compute_metrics, grouped_auc, with_split_auc
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import bootstrap_auc

LABELS = np.array([True, True, False, False])


def paired(models: tuple[str, ...], scores: np.ndarray, labels: np.ndarray = LABELS) -> PairedScores:
    """Scores of rows of half as many users."""
    rows = np.arange(len(labels))
    return PairedScores(models, rows, rows % (len(labels) // 2), labels, scores)


def measure(pair: PairedScores, confidence: float = 0.95) -> list[dict]:
    bootstrap = Bootstrap(confidence=confidence, seed=0).model_copy(update={"samples": 200})
    return compute_metrics(pair, bootstrap_auc(pair, bootstrap), bootstrap)


def test_one_record_per_model():
    scores = np.array([[0.9, 0.4, 0.6, 0.1], [0.5, 0.5, 0.5, 0.5]])
    lens, constant = measure(paired(("lens", "constant"), scores))
    assert list(lens) == [
        "model", "rows", "positives", "users", "auc", "auc_low", "auc_high", "confidence", "gauc", "gauc_low",
        "gauc_high", "gauc_users", "log_loss", "log_loss_low", "log_loss_high", "accuracy", "accuracy_low",
        "accuracy_high",
    ]  # fmt: skip
    assert [lens[name] for name in ("model", "rows", "positives", "users", "auc")] == ["lens", 4, 2, 2, 0.75]
    assert lens["auc_low"] < 0.75 < lens["auc_high"] <= 1
    assert lens["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.4, 0.9])))
    assert (lens["accuracy"], lens["accuracy_low"], lens["accuracy_high"]) == (0.5, 0.5, 0.5)  # of each of two users
    assert lens["log_loss_low"] <= lens["log_loss"] <= lens["log_loss_high"]
    # 0.5 counts as a predicted like.
    assert (constant["auc"], constant["accuracy"]) == (0.5, 0.5)
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


def gauc_of(users: np.ndarray, labels: np.ndarray, *scores: np.ndarray) -> list[dict]:
    return grouped_auc(users, labels, np.stack(scores), Bootstrap(confidence=0.95, seed=0))


def rows_of_users(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, labels and scores of ten rows of each user, with few ties."""
    random, rows = np.random.default_rng(0), 10 * users
    return np.arange(rows) % users, random.random(rows) < 0.3, random.integers(50, size=rows) / 50


def test_gauc_is_the_mean_of_the_users_aucs_weighted_by_their_rows():
    users, labels, scores = rows_of_users(60)
    users[-100:] = 3  # one of them has many rows
    of_user = {user: users == user for user in range(60)}
    mixed = [rows for rows in of_user.values() if 0 < labels[rows].sum() < rows.sum()]
    assert len(mixed) < len(of_user)
    aucs, rows = zip(*((roc_auc_score(labels[rows], scores[rows]), rows.sum()) for rows in mixed), strict=True)
    [record] = gauc_of(users, labels, scores)
    assert record["gauc"] == pytest.approx(np.average(aucs, weights=rows))
    assert record["gauc_users"] == len(mixed)
    # The interval is that of a weighted mean over users, whose variance the delta method approximates.
    terms = np.array(rows) * (np.array(aucs) - record["gauc"]) / np.mean(rows)
    half_width = 2 * terms.std() / len(mixed) ** 0.5
    assert record["gauc_low"] == pytest.approx(record["gauc"] - half_width, abs=0.2 * half_width)
    assert record["gauc_high"] == pytest.approx(record["gauc"] + half_width, abs=0.2 * half_width)


def test_there_is_no_gauc_of_few_users():
    users, labels = np.repeat(np.arange(LEAST_USERS), 2), np.tile([True, False], LEAST_USERS)
    assert gauc_of(users, labels, labels.astype(float))[0]["gauc"] == 1
    labels[0] = False  # of one user there are dislikes alone
    for record in gauc_of(users, labels, labels.astype(float), 1.0 - labels):
        assert record == {"gauc": None, "gauc_low": None, "gauc_high": None, "gauc_users": LEAST_USERS - 1}


def test_gauc_ignores_what_tells_users_apart():
    users, labels, scores = rows_of_users(40)
    first, second = gauc_of(users, labels, scores, scores + 10 * users)
    assert first == pytest.approx(second)


def test_the_auc_of_the_whole_test_split_is_told_of_models_that_scored_it() -> None:
    samples = pl.DataFrame({"row": range(10, 20), "label": [0, 1] * 5})
    whole = samples.select("row", score=pl.col("label") * 0.5 + 0.1)
    records = [{"model": model} for model in ("lens", "trees", "llm")]
    told = with_split_auc(records, samples, [{"model": "lens", "auc": 0.7}], {"trees": whole, "llm": whole[:3]})
    assert [record["split_auc"] for record in told] == [0.7, 1.0, None]
    assert {record["split_rows"] for record in told} == {10}
