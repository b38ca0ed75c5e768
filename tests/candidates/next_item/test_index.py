"""The approximate index of a retriever's items."""

import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.next_item.reader import ItemIndex

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


def test_without_faiss_it_says_what_to_install(clustered, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ImportError, match=r"catalogue of 4,000 items, .* Faiss: `pip install 'faiss-cpu>=.*'`, or leave"
    ):
        ItemIndex(clustered[0], np.arange(ITEMS), seed=0)
