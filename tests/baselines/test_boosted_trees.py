"""Trees that read the numbers of a lens alone."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from reclora_kedro.baselines.boosted_trees import scores
from reclora_kedro.lens.training import fit_lens


def auc_of_trees(log, config, **settings):
    """AUC of the trees beside a lens with these settings, on the test rows."""
    lens, _ = fit_lens(log, config.model_copy(update={"max_epochs": 1, "co_occurrence_folds": 0, **settings}))
    test = log.rows_in("test")
    table = scores(log, log.samples[test], lens)
    assert table["row"].to_list() == test.tolist()
    return roc_auc_score(log.samples["label"].to_numpy()[test], table["score"])


@pytest.mark.parametrize("delay", [0.0, 1e9])
def test_trees_rank_by_what_the_statistics_know(log, config, delay) -> None:
    auc = auc_of_trees(log, config, item_text=False, statistics_delay=delay)
    assert auc == 0.5 if delay else auc > 0.9


@pytest.mark.parametrize("model", ["din", "sim"])
def test_trees_read_how_alike_texts_are_where_the_lens_does(log, config, model) -> None:
    sequences, samples = log.sequences, log.samples.select("user_index", "item_index", "history_end")
    alike = [  # texts tell the parity of an item
        np.mean((sequences.item_index[max(sequences.offsets[user], end - 5) : end] - item) % 2 == 0) > 0.5
        for user, item, end in samples.iter_rows()
    ]
    log = replace(log, samples=log.samples.with_columns(label=pl.Series(alike).cast(pl.Int8)))
    settings = {"model": model, "statistics_delay": 1e9}  # statistics that know nothing
    assert auc_of_trees(log, config, item_text=True, **settings) > 0.9
    assert auc_of_trees(log, config, item_text=False, **settings) == 0.5
