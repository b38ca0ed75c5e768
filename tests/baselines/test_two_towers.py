"""Two towers over text vectors: what they learn from few rows, and what their scores depend on."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reclora_kedro.baselines import two_towers
from reclora_kedro.baselines.two_towers import TwoTowersConfig, tower_inputs
from reclora_kedro.histories.questions import questions

SETTINGS = TwoTowersConfig(
    recent_length=5,
    hidden_dim=8,
    dropout=0.1,
    learning_rates=(1e-2,),
    weight_decay=0.0,
    batch_size=16,
    max_epochs=6,
    seed=0,
)


def two_tower_scores(log, few_shot, validation, test, config):
    learning = [questions(log.samples[rows], use) for use, rows in (("few_shot", few_shot), ("validation", validation))]
    table = two_towers.scores(log, pl.concat(learning), questions(log.samples[test], "test"), config)
    assert table["row"].to_list() == test.tolist()
    return table["score"].to_numpy()


@pytest.fixture(scope="module")
def rows(log):
    """Few-shot, validation and test rows."""
    return log.rows_in("train")[::2], log.rows_in("validation"), log.rows_in("test")


@pytest.fixture(scope="module")
def scores(log, rows):
    """Of the test rows."""
    return two_tower_scores(log, *rows, SETTINGS)


def auc(log, rows, scores) -> float:
    return roc_auc_score(log.samples["label"].to_numpy()[rows], scores)


def test_a_signal_in_the_texts_is_learned_from_few_rows(log, rows, scores) -> None:
    *_, test = rows
    assert auc(log, test, scores) > 0.9
    shuffled = np.random.default_rng(0).permutation(log.item_embeddings)
    assert auc(log, test, two_tower_scores(log.with_embeddings(shuffled), *rows, SETTINGS)) < 0.8


def test_scores_are_probabilities_that_the_seed_decides(log, rows, scores) -> None:
    assert scores.shape == rows[2].shape
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    torch.rand(1)  # whatever random numbers were drawn before
    np.testing.assert_array_equal(scores, two_tower_scores(log, *rows, SETTINGS))
    assert not (scores == two_tower_scores(log, *rows, SETTINGS.model_copy(update={"seed": 1}))).any()


def test_the_score_of_a_row_does_not_depend_on_the_other_rows(log, rows, scores, monkeypatch) -> None:
    few_shot, validation, test = rows
    some = np.array([7, 3])
    np.testing.assert_allclose(two_tower_scores(log, few_shot, validation, test[some], SETTINGS), scores[some], 1e-5)
    flipped = pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise("label")
    other = replace(log, samples=log.samples.with_columns(label=flipped))
    np.testing.assert_array_equal(two_tower_scores(other, *rows, SETTINGS), scores)
    monkeypatch.setattr(two_towers, "SCORING_BATCH_SIZE", 7)
    np.testing.assert_allclose(two_tower_scores(log, *rows, SETTINGS), scores, rtol=1e-3)


def test_the_learning_rate_with_the_best_validation_auc_is_taken(log, rows, scores) -> None:
    two = SETTINGS.model_copy(update={"learning_rates": (1e-12, 1e-2)})
    np.testing.assert_array_equal(two_tower_scores(log, *rows, two), scores)


def test_the_user_tower_reads_means_of_likes_and_dislikes_and_how_many_there_were(log) -> None:
    sample = log.samples.filter(
        pl.col("history_end") - pl.Series(log.sequences.offsets[log.samples["user_index"]]) == 3
    )
    texts = torch.eye(log.items.height)
    user, item = tower_inputs(log, texts, sample[:1], SETTINGS.model_copy(update={"recent_length": 2}))
    row, width = sample.row(0, named=True), log.items.height
    events = slice(row["history_end"] - 2, row["history_end"])
    items, labels = log.sequences.item_index[events], log.sequences.label[events]
    expected = np.zeros((2, width))
    for past, label in zip(items, labels, strict=True):
        expected[1 - label, past] += width**0.5 / (labels == label).sum()
    np.testing.assert_allclose(user[0, :-1], expected.ravel(), rtol=1e-5)
    assert user[0, -1] == pytest.approx(np.log(4))
    np.testing.assert_allclose(item[0], width**0.5 * texts[row["item_index"]])
