"""What a lens reaches on the whole test split."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.lens.metrics import measure_lens, similarity_to_recent_items
from reclora_kedro.lens.states import lens_scores, lens_states


@pytest.mark.parametrize("fitted", ["sim", "text_transformer"], indirect=True)
def test_a_lens_is_measured_by_its_scores_of_all_test_samples(fitted, log) -> None:
    lens, _ = fitted
    rows = log.rows_in("test")
    labels, scores = log.samples["label"].to_numpy()[rows], lens_scores(lens_states(lens, log, log.samples[rows]))
    record, *others = measure_lens(lens, log, Bootstrap(confidence=0.9, seed=0).model_copy(update={"samples": 100}))
    assert record["auc"] == roc_auc_score(labels, scores)
    trained = log.sequences.item_index[log.samples.filter(split="train")["event"].drop_nulls()]
    cold = ~log.samples["item_index"].is_in(trained.tolist()).to_numpy()[rows]
    assert record["auc_cold"] == (roc_auc_score(labels[cold], scores[cold]) if len(set(labels[cold])) == 2 else None)
    assert record["log_loss"] == log_loss(labels, scores)
    assert record["accuracy"] == np.mean((scores >= 0.5) == labels)
    assert (record["rows"], record["positives"]) == (len(rows), labels.sum())
    assert record["weights"] == sum(weight.numel() for weight in lens.parameters())
    assert [other["model"] for other in others] == (["similarity"] if lens.config.item_text else [])


def test_the_likeness_of_items_is_the_mean_cosine_with_the_events_before(log) -> None:
    vectors = np.random.default_rng(0).normal(size=(log.items.height, 3))
    vectors[0] = 0  # an item of which nothing is known is like no other
    samples, events = log.samples[log.rows_in("test")], 2
    expected = []
    for row in samples.iter_rows(named=True):
        first = max(log.sequences.offsets[row["user_index"]], row["history_end"] - events)
        past, target = log.sequences.item_index[first : row["history_end"]], vectors[row["item_index"]]
        lengths = np.linalg.norm(vectors[past], axis=1) * np.linalg.norm(target)
        expected.append(np.mean(np.divide(vectors[past] @ target, lengths, out=0 * lengths, where=lengths > 0)))
    likeness = similarity_to_recent_items(log.with_embeddings(vectors, [3]), samples, events)
    np.testing.assert_allclose(likeness, np.nan_to_num(expected), atol=1e-12)
