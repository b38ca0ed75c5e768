"""What a lens reaches on the whole test split."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.lens.metrics import measure_lens
from reclora_kedro.lens.states import lens_scores, lens_states


@pytest.mark.parametrize("fitted", ["sim", "hllm"], indirect=True)
def test_a_lens_is_measured_by_its_scores_of_all_test_samples(fitted, log) -> None:
    lens, _ = fitted
    rows = log.rows_in("test")
    labels, scores = log.samples["label"].to_numpy()[rows], lens_scores(lens_states(lens, log, log.samples[rows]))
    record = measure_lens(lens, log, Bootstrap(confidence=0.9, samples=100, seed=0))
    assert record["auc"] == roc_auc_score(labels, scores)
    trained = log.sequences.item_index[log.samples.filter(split="train")["event"].drop_nulls()]
    cold = ~log.samples["item_index"].is_in(trained.tolist()).to_numpy()[rows]
    assert record["auc_cold"] == (roc_auc_score(labels[cold], scores[cold]) if len(set(labels[cold])) == 2 else None)
    assert record["log_loss"] == log_loss(labels, scores)
    assert record["accuracy"] == np.mean((scores >= 0.5) == labels)
    assert (record["rows"], record["positives"]) == (len(rows), labels.sum())
    assert record["weights"] == sum(weight.numel() for weight in lens.parameters())
