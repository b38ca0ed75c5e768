"""The retriever as an item model, with exact scores and with an index."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro.candidates import retriever as module
from reclora_kedro.candidates.item_model import NoSettings, Training
from reclora_kedro.candidates.moments import NO_ITEM, best_items
from reclora_kedro.candidates.retriever import RetrieverModel


def moments_of(training, allowed=None):
    """Moments of users after 0, 1, 9 and 12 events, one of them twice."""
    users = np.array([0, 1, 2, 3, 1])
    ends = training.log.sequences.starts[users] + [0, 1, 9, 12, 1]
    frame = pl.DataFrame({"user_index": users, "history_end": ends, "timestamp": [9] * 5})
    return training.moments(frame, allowed=allowed)


@pytest.mark.parametrize("at_once", [1, 2**20])
@pytest.mark.parametrize("indexed_from", [0, 10**9])
def test_lists_are_new_items_by_their_scores_with_an_index_or_without(fitted, log, monkeypatch, indexed_from, at_once):
    monkeypatch.setattr(module, "INDEXED_FROM", indexed_from)
    monkeypatch.setattr(module, "SEARCHED_AT_ONCE", at_once)
    training = Training.from_log(log, retriever=fitted[0])
    model = RetrieverModel.fit(training, NoSettings())
    few = np.array([2, 5, 11])
    moments = moments_of(training, allowed=[None, None, None, None, few])
    lists, scores = model.top(moments, 6), model.scores(moments)
    for row, items in enumerate(lists.items):
        items = items[items != NO_ITEM]
        assert len(items) == min(6, moments.mask[row].sum())
        assert moments.allows(row, items).all()
        np.testing.assert_allclose(lists.scores[row, : len(items)], scores[row, items], atol=1e-5)
        assert (np.diff(lists.scores[row, : len(items)]) <= 1e-5).all()
    exact = best_items(scores, moments, 6).items
    assert lists.items[[0, 4]].tolist() == exact[[0, 4]].tolist()  # without events, or among few: never by the index
    row, item = np.divmod(np.random.default_rng(0).permutation(5 * log.items.height), log.items.height)
    np.testing.assert_allclose(model.score(moments, row, item), scores[row, item], rtol=1e-5, atol=1e-5)


def test_without_a_trained_one_it_says_which_pipeline_trains_it(log):
    with pytest.raises(
        ValueError, match=r"names retriever, but this run loads none: run `kedro run --pipelines candidates`"
    ):
        RetrieverModel.fit(Training.from_log(log), NoSettings())
