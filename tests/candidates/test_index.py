"""The approximate index of a retriever's items beside exact scores."""

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from cycle_log import catalogue_scores
from reclora_kedro.candidates import index
from reclora_kedro.candidates.next_item.index import NO_ITEM, ItemIndex, UnseenItems
from reclora_kedro.candidates.next_item.reader import RetrieverReader

ITEMS, DIM, MOST = 4_000, 16, 100


@pytest.fixture(scope="module")
def clustered():
    """Vectors around 40 centres, and states near sums of two of them."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, DIM))
    vectors = centres[random.integers(40, size=ITEMS)] + 0.5 * random.normal(size=(ITEMS, DIM))
    pairs = vectors[random.integers(ITEMS, size=(200, 2))]
    return vectors.astype(np.float32), pairs.sum(axis=1).astype(np.float32)


def test_it_finds_98_of_the_best_100_and_is_the_same_for_a_seed_whatever_the_threads(clustered):
    vectors, states = clustered
    best = np.argsort(-states @ vectors.T, axis=1)[:, :MOST]
    found = ItemIndex(vectors, np.arange(ITEMS), seed=0).search(states, MOST)
    recall = np.mean([np.isin(*rows).mean() for rows in zip(found, best, strict=True)])
    assert recall >= 0.98
    with threadpool_limits(2):
        again = ItemIndex(vectors, np.arange(ITEMS), seed=0).search(states, MOST)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("at_once", [1, 2**20])
def test_seen_items_never_come_however_many_a_user_has_seen(fitted, log, monkeypatch, at_once):
    monkeypatch.setattr(index, "ITEMS_AT_ONCE", at_once)
    offsets = np.array([0, 1, 3, 12, 40, len(log.sequences.item_index)])  # the last one has seen all that has events
    users = replace(log, sequences=replace(log.sequences, offsets=offsets))
    reader = RetrieverReader(fitted[0], users)
    moments = users.now(pl.DataFrame({"user_index": range(5)}))
    expected = catalogue_scores(reader, moments)
    source = UnseenItems(reader, ItemIndex.of(fitted[0]))
    for user, items in enumerate(source.find(moments, 4)):
        seen = log.sequences.item_index[offsets[user] : offsets[user + 1]]
        items = items[items != NO_ITEM]
        assert len(items) == min(4, log.items.height - len(np.unique(seen)))
        assert not np.isin(items, seen).any()
        assert (np.diff(expected[user, items]) <= 1e-5).all()


def test_without_faiss_it_says_what_to_install(clustered, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ImportError, match=r"catalogue of 4,000 items, .* Faiss: `pip install -e '\.\[large\]'`, or raise"
    ):
        ItemIndex(clustered[0], np.arange(ITEMS), seed=0)
