import numpy as np
import pytest

from reclora_kedro.evaluation.metrics import compute_metrics
from reclora_kedro.evaluation.scores import PairedScores

LABELS = np.array([True, True, False, False])


def test_one_record_per_model():
    scores = np.array([[0.9, 0.4, 0.6, 0.1], [0.5, 0.5, 0.5, 0.5]])
    lens, constant = compute_metrics(PairedScores(("lens", "constant"), LABELS, scores), 0.95)
    assert list(lens) == ["model", "rows", "positives", "auc", "auc_low", "auc_high", "log_loss", "accuracy"]
    assert (lens["model"], lens["rows"], lens["positives"], lens["auc"]) == ("lens", 4, 2, 0.75)
    assert lens["auc_low"] < 0.75 < lens["auc_high"] <= 1
    assert lens["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.4, 0.9])))
    assert lens["accuracy"] == 0.5
    # 0.5 counts as a predicted like.
    assert (constant["auc"], constant["accuracy"]) == (0.5, 0.5)
    assert constant["log_loss"] == pytest.approx(np.log(2))


def test_sure_mistakes_stay_finite():
    [record] = compute_metrics(PairedScores(("wrong",), LABELS, 1 - LABELS[None].astype(float)), 0.95)
    assert np.isfinite(record["log_loss"])
    assert (record["auc"], record["auc_low"], record["auc_high"]) == (0, 0, 0)


def test_a_higher_level_widens_the_interval():
    paired = PairedScores(("lens",), np.arange(100) % 2 == 0, np.random.default_rng(0).random((1, 100)))
    [narrow], [wide] = compute_metrics(paired, 0.9), compute_metrics(paired, 0.99)
    assert wide["auc_low"] < narrow["auc_low"] < narrow["auc"] < narrow["auc_high"] < wide["auc_high"]
