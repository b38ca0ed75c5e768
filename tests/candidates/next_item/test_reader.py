"""What a retriever says of moments."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from cycle_log import catalogue_scores
from kedro_provenance.errors import MismatchError
from reclora_kedro.candidates.next_item import reader
from reclora_kedro.candidates.next_item.base import grow_retriever
from reclora_kedro.candidates.next_item.reader import LOWEST_SCORE, RetrieverReader
from reclora_kedro.candidates.next_item.training import fit_retriever


@pytest.mark.parametrize("at_once", [1, 60, 10**6])
def test_scores_of_pairs_are_those_of_the_whole_catalogue(fitted, log, monkeypatch, at_once):
    monkeypatch.setattr(reader, "SCORES_AT_ONCE", at_once)
    reads, items = RetrieverReader(fitted[0], log), log.items.height
    moments = log.samples.filter(split="test").select("user_index", "history_end", "timestamp")
    scores = catalogue_scores(reads, moments)
    assert scores.dtype == np.float32
    row, item = np.divmod(np.random.default_rng(0).permutation(moments.height * items), items)
    np.testing.assert_allclose(reads.scores_of(moments, row, item), scores[row, item], rtol=1e-5, atol=1e-5)


def test_among_other_events_it_reads_the_histories_there(fitted, log):
    other = replace(log, sequences=replace(log.sequences, item_index=log.sequences.item_index[::-1].copy()))
    moments = log.samples.filter(split="test")
    scores = catalogue_scores(RetrieverReader(fitted[0], log).with_events(other.sequences), moments)
    np.testing.assert_array_equal(scores, catalogue_scores(RetrieverReader(fitted[0], other), moments))


def test_users_without_events_get_what_is_popular(fitted, log):
    reads = RetrieverReader(fitted[0], log)
    moments = pl.DataFrame({"user_index": [3, 3], "history_end": log.sequences.offsets[3] + [0, 5], "timestamp": 9})
    counts = np.bincount(log.sequences.item_index[log.training_events()], minlength=log.items.height)
    without, of_user = catalogue_scores(reads, moments).tolist()
    assert without == counts.tolist()
    assert of_user != without


def test_a_new_item_is_scored_by_its_text_or_comes_last(log, config):
    new, once = log.items.height - 1, config.model_copy(update={"max_epochs": 1})
    moments = log.samples.filter(split="test")
    with_text = catalogue_scores(RetrieverReader(fit_retriever(log, once)[0], log), moments)
    assert (with_text[:, new] > LOWEST_SCORE).all()
    by_ids = catalogue_scores(
        RetrieverReader(fit_retriever(log, once.model_copy(update={"item_text": False}))[0], log), moments
    )
    assert (by_ids[:, new] == LOWEST_SCORE).all()
    assert (by_ids[:, :new] > LOWEST_SCORE).all()
    embeddings = log.item_embeddings.copy()
    embeddings[[0, new]] = 0
    untold = log.with_embeddings(embeddings)
    scores = catalogue_scores(RetrieverReader(fit_retriever(untold, once)[0], untold), moments)
    assert np.isfinite(scores).all()
    assert (scores[:, new] == LOWEST_SCORE).all()
    assert (scores[:, 0] > LOWEST_SCORE).all()  # known by its id


@pytest.mark.parametrize("item_text", [True, False])
def test_a_grown_retriever_scores_what_it_knew_to_the_last_bit(log, config, item_text):
    retriever, _ = fit_retriever(log, config.model_copy(update={"max_epochs": 1, "item_text": item_text}))
    new = log.items.height
    texts = np.concatenate([log.item_embeddings, log.item_embeddings[:2]])
    items = pl.concat([log.items, log.items.head(2).with_columns(item_id=pl.Series([100, 101], dtype=pl.Int64))])
    grown_log = replace(log, items=items).with_embeddings(texts)
    moments = log.samples.filter(split="test")
    before = catalogue_scores(RetrieverReader(retriever, log), moments)
    after = catalogue_scores(RetrieverReader(grow_retriever(retriever, grown_log), grown_log), moments)
    np.testing.assert_array_equal(after[:, :new], before)
    assert ((after[:, new:] > LOWEST_SCORE) == item_text).all()
    with pytest.raises(MismatchError, match=f"The log has {new - 1} items, but the retriever knows {new}, and a log"):
        grow_retriever(retriever, replace(log, items=log.items.head(new - 1)))


def test_a_log_of_other_items_is_refused(fitted, log):
    with pytest.raises(MismatchError, match="The log has 23 items, but the retriever knows 24"):
        RetrieverReader(fitted[0], replace(log, items=log.items.head(23)))


def test_reading_leaves_no_gradients(fitted, log):
    assert not any(weights.requires_grad for weights in fitted[0].parameters())
    assert torch.from_numpy(catalogue_scores(RetrieverReader(fitted[0], log), log.samples.head(3))).isfinite().all()
