"""Trees that read the numbers of a lens alone."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.baselines import boosted_trees
from reclora_kedro.baselines.boosted_trees import scores
from reclora_kedro.lens.training import fit_lens


def auc_of_trees(log, config, **settings):
    """AUC of the trees beside a lens with these settings, on the test rows."""
    lens, _ = fit_lens(log, config.model_copy(update={"max_epochs": 1, "co_occurrence_folds": 0, **settings}))
    test = log.rows_in("test")
    table = scores(log, lens)
    assert table["row"].to_list() == test.tolist()
    return roc_auc_score(log.samples["label"].to_numpy()[test], table["score"])


@pytest.mark.parametrize("delay", [0.0, 1e9])
def test_trees_rank_by_what_the_statistics_know(log, config, delay) -> None:
    odd = (log.sequences.item_index % 2).astype(np.int8)  # which the user's own ratings do not tell
    rating = (
        np.ones(len(odd), dtype=np.float32) if delay else 1 + 4 * odd.astype(np.float32)
    )  # by which items are alike
    sequences = replace(log.sequences, label=odd, rating=rating)
    samples = log.samples.with_columns(label=(pl.col("item_index") % 2).cast(pl.Int8))
    log = replace(log, sequences=sequences, samples=samples, item_embeddings=None)
    auc = auc_of_trees(log, config, item_text=False, statistics_delay=delay)
    assert auc < 0.65 if delay else auc > 0.9


@pytest.mark.parametrize("model", ["din", "sim"])
def test_trees_read_how_alike_texts_are_where_the_lens_does(log, config, model) -> None:
    sequences, samples = log.sequences, log.samples.select("user_index", "item_index", "history_end")
    alike = [  # texts tell the parity of an item
        np.mean((sequences.item_index[max(sequences.offsets[user], end - 5) : end] - item) % 2 == 0) > 0.5
        for user, item, end in samples.iter_rows()
    ]
    log = replace(log, samples=log.samples.with_columns(label=pl.Series(alike).cast(pl.Int8)))
    log = replace(log, sequences=replace(sequences, rating=np.ones_like(sequences.rating)))
    settings = {"model": model, "statistics_delay": 1e9}  # statistics that know nothing
    assert auc_of_trees(log, config, item_text=True, **settings) > 0.9
    assert auc_of_trees(replace(log, item_embeddings=None), config, item_text=False, **settings) < 0.8


def test_trees_read_how_the_user_rated_what_is_like_the_target(log, config, monkeypatch) -> None:
    """Users like what they rated highly before, if it is of the target's parity."""
    sequences, samples = log.sequences, log.samples.select("user_index", "item_index", "history_end")
    rated = []
    for user, item, end in samples.iter_rows():
        history = np.arange(sequences.offsets[user], end)
        similar = history[(sequences.item_index[history] - item) % 2 == 0][-10:]
        rated.append(int(len(similar) and sequences.rating[similar].mean() > 3))
    log = replace(log, samples=log.samples.with_columns(label=pl.Series(rated, dtype=pl.Int8)))
    texts = np.array([[1.0, 0.1], [0.1, 1.0]])[np.arange(log.items.height) % 2]
    nothing_else = {"item_text": False, "statistics_delay": 1e9}
    assert auc_of_trees(replace(log, item_embeddings=None), config, **nothing_else) > 0.85  # which others' ratings tell
    monkeypatch.setattr(boosted_trees, "MOST_PAIRS", 0)
    assert auc_of_trees(log.with_embeddings(texts), config, **nothing_else) > 0.85
    assert auc_of_trees(replace(log, item_embeddings=None), config, **nothing_else) < 0.8
