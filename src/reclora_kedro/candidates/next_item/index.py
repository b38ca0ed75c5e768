"""An approximate index of a retriever's items, for catalogues that are too large to score for every user."""

from importlib.util import find_spec
from typing import Self

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.extras import install_line

# benchmarks/large_catalogue.py measures recall and time with these.
LISTS_PER_ROOT = 4  # lists, per square root of the number of items
SEARCHED_SHARE = 1 / 3  # of the lists
COMPARED = 20  # items whose exact products are compared, per item wanted
TRAINING_VECTORS = 64  # drawn for each list's centroid


class ItemIndex:
    """Finds the items with the greatest products with a state, without the products with all items.

    k-means divides the vectors into lists, where each number of a vector is kept in 4 bits. A search reads the lists
    whose centroids have the greatest products with the state, and computes exact products of the best items there
    (Faiss's IVF, PQ and refinement). The index is built in one thread, so that it is the same for a seed.

    Args:
        vectors: float32, shape (n, dim), n at least 16.
        items: their items' indices, int64, shape (n,).
    """

    def __init__(self, vectors: np.ndarray, items: np.ndarray, seed: int) -> None:
        if find_spec("faiss") is None:
            raise ImportError(
                f"In a catalogue of {len(items):,} items, the retriever reads an index, which needs Faiss: "
                f"`{install_line('large')}`, or leave retriever out of recommendation.sources."
            )
        import faiss

        count, dim = vectors.shape
        lists = min(count, round(LISTS_PER_ROOT * count**0.5))
        self._index = faiss.index_factory(dim, f"IVF{lists},PQ{dim}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
        self._index.k_factor = COMPARED  # type: ignore[attr-defined]  # the factory is typed by the base class
        self.lists = faiss.extract_index_ivf(self._index)
        clustering = self.lists.cp
        clustering.seed, clustering.min_points_per_centroid = seed, 1
        clustering.max_points_per_centroid = TRAINING_VECTORS
        self.lists.nprobe = max(1, round(SEARCHED_SHARE * lists))
        with threadpool_limits(1):
            drawn = np.random.default_rng(seed).permutation(count)[: TRAINING_VECTORS * lists]
            self._index.train(vectors[drawn])
            self._index.add(vectors)
        self._items = np.append(items, NO_ITEM)

    @classmethod
    @torch.inference_mode()
    def from_retriever(cls, retriever: Retriever) -> Self:
        """Build the index of the items that a frozen retriever can score."""
        items = retriever.scored.nonzero().squeeze(1)
        return cls(retriever.item_vectors(items).cpu().numpy(), items.cpu().numpy(), retriever.config.seed)

    def search(self, states: np.ndarray, limit: int) -> np.ndarray:
        """Return the items of states, (n, dim), best first and padded with `NO_ITEM`: int64, (n, most)."""
        return self._items[self._index.search(states, limit)[1]]  # Faiss pads with -1: the last one
