"""An approximate index of a retriever's items, for catalogues that are too large to score for every user."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self

import numpy as np
import polars as pl
import torch
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.base import Retriever
from reclora_kedro.candidates.reader import RetrieverReader
from reclora_kedro.history.sequences import places_of

NO_ITEM = -1
NOTHING = np.array([], dtype=np.int64)
# benchmarks/large_catalogue.py measures recall and time with these.
LISTS_PER_ROOT = 4  # lists, per square root of the number of items
SEARCHED_SHARE = 1 / 3  # of the lists
COMPARED = 20  # items whose exact products are compared, per item wanted
TRAINING_VECTORS = 64  # drawn for each list's centroid
ITEMS_AT_ONCE = 2**20  # found items that are compared with seen ones at once


class ItemIndex:
    """Finds the items with the greatest products with a state, without the products with all items.

    k-means divides the vectors into lists, where each number of a vector is kept in 4 bits. A search reads the lists
    whose centroids have the greatest products with the state, and computes exact products of the best items there
    (Faiss's IVF, PQ and refinement). The index is built in one thread, so that it is the same for a seed.

    Args:
        vectors: float32, shape (n, dim), n at least 16.
        items: their items' indices, int64, shape (n,).

    Raises:
        ImportError: Faiss is not installed.
    """

    def __init__(self, vectors: np.ndarray, items: np.ndarray, seed: int) -> None:
        if find_spec("faiss") is None:
            raise ImportError(
                f"In a catalogue of {len(items):,} items, the retriever reads an index, which needs Faiss: `pip "
                "install -e '.[large]'`, or raise recommendation.exact_items to score every item for every user."
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
    def of(cls, retriever: Retriever) -> Self:
        """Build the index of the items that a frozen retriever can score."""
        items = retriever.scored.nonzero().squeeze(1)
        return cls(retriever.item_vectors(items).cpu().numpy(), items.cpu().numpy(), retriever.config.seed)

    def search(self, states: np.ndarray, most: int) -> np.ndarray:
        """Return the items of states, (n, dim), best first and padded with `NO_ITEM`: int64, (n, most)."""
        return self._items[self._index.search(states, most)[1]]  # Faiss pads with -1: the last one


@dataclass(frozen=True)
class UnseenItems:
    """Finds a retriever's best items that a user has no event with, by an index."""

    reader: RetrieverReader
    index: ItemIndex

    def find(self, moments: pl.DataFrame, most: int, excluded: np.ndarray = NOTHING) -> np.ndarray:
        """Return the best items that a moment's history lacks, in order, padded with `NO_ITEM`: int64, (moments, most).

        The index is asked for as many more items as the user has events. Moments (columns of `MOMENT`) for which it
        still finds too few, as most of what it reads has been seen, get the best of exact scores. The excluded items
        are left out, too.
        """
        found = self._find(moments, most + len(excluded))
        rows = np.repeat(np.arange(moments.height), len(excluded))
        return _unseen(found, (rows, np.tile(excluded, moments.height)))[:, :most] if len(excluded) else found

    def score(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the scores of items at rows of the moments, shape (pairs,)."""
        return self.reader.scores_of(moments, row, item)

    def _find(self, moments: pl.DataFrame, most: int) -> np.ndarray:
        starts = self.reader.events.starts[moments["user_index"].to_numpy()]
        ends = moments["history_end"].to_numpy()
        # One search finds equally many for all its states: powers of two make few searches.
        counts = 2 ** np.ceil(np.log2(most + ends - starts)).astype(np.int64)
        found = np.full((moments.height, most), NO_ITEM, dtype=np.int64)
        for count in np.unique(counts):
            of_count, step = np.flatnonzero(counts == count), max(1, ITEMS_AT_ONCE // count)
            for rows in np.split(of_count, range(step, len(of_count), step)):
                states, has_events = self.reader.states(moments[rows])
                items = self.index.search(states.cpu().numpy(), int(count))
                items[~has_events.cpu().numpy()] = NO_ITEM
                found[rows] = _unseen(items, self._events_of(starts[rows], ends[rows]))[:, :most]
        short = np.flatnonzero(found[:, -1] == NO_ITEM)
        for rows, scores in self.reader.blocks(moments[short], ends[short]):
            best, items = (each.cpu().numpy() for each in scores.topk(min(most, scores.shape[1])))
            found[short[rows], : items.shape[1]] = np.where(np.isfinite(best), items, NO_ITEM)
        return found

    def _events_of(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return row and item of the events of each row's run, both int64, shape (events,)."""
        row = np.repeat(np.arange(len(starts)), ends - starts)
        return row, self.reader.events.item_index[places_of(starts, ends)].astype(np.int64)


def _unseen(found: np.ndarray, seen: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Move each row's found items that it has not seen to the front, in their order, and pad with `NO_ITEM`.

    Examples:
        >>> _unseen(np.array([[4, 7, 2], [7, 4, -1]]), (np.array([0, 0]), np.array([4, 9])))
        array([[ 7,  2, -1],
               [ 7,  4, -1]])
    """
    row, item = seen
    width = max(found.max(initial=0), item.max(initial=0)) + 1
    is_unseen = ~np.isin(np.arange(len(found))[:, None] * width + found, row * width + item) & (found != NO_ITEM)
    order = np.argsort(~is_unseen, axis=1, kind="stable")
    return np.take_along_axis(np.where(is_unseen, found, NO_ITEM), order, axis=1)
