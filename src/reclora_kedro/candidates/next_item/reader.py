"""Scores of a retriever at moments of users, for the whole catalogue or for pairs, and hard negatives by them."""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from importlib.util import find_spec
from typing import Self

import numpy as np
import polars as pl
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from kedro_provenance.errors import MismatchError
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.candidates.next_item.base import Retriever
from reclora_kedro.devices import choose_device
from reclora_kedro.extras import install_line
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import recent_events
from reclora_kedro.history.sequences import Sequences, places_of
from reclora_kedro.layers import last_event

SCORES_AT_ONCE = 2**22
LOWEST_SCORE = float(np.finfo(np.float32).min)
"""Score of an item that a retriever cannot score, as it has neither training events nor a text that is read."""
# benchmarks/large_catalogue.py measures recall and time with these.
LISTS_PER_ROOT = 4  # lists, per square root of the number of items
SEARCHED_SHARE = 1 / 3  # of the lists
COMPARED = 20  # items whose exact products are compared, per item wanted
TRAINING_VECTORS = 64  # drawn for each list's centroid


class RetrieverReader:
    """Reads histories of a log with a frozen retriever, which is of the same items, on `retriever.config.device`."""

    @torch.inference_mode()
    def __init__(self, retriever: Retriever, log: InteractionLog) -> None:
        if log.items.height != retriever.sizes.items:
            known = f"the retriever knows {retriever.sizes.items}: they stem from different runs."
            raise MismatchError(f"The log has {log.items.height} items, but {known}", "log", "retriever")
        self._device = choose_device(retriever.config.device)
        self._retriever, self.events = retriever.to(self._device).eval(), log.sequences
        self._vectors = retriever.item_vectors(torch.arange(retriever.sizes.items, device=self._device))
        self._unknown = ~retriever.scored

    def with_events(self, events: Sequences) -> Self:
        """Return a reader of histories among other events of the same items."""
        reader = copy(self)
        reader.events = events
        return reader

    @torch.inference_mode()
    def blocks(self, moments: pl.DataFrame, until: np.ndarray | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield scores of all items, a block of moments at a time.

        A user without events gets the popularity in the training split; items that cannot be scored come last. Items of
        a user's events before the flat index `until` of a moment score minus infinity.
        Each block comes as its places among the moments, and scores, float32 on the device, shape (places, items).
        """
        step = max(1, SCORES_AT_ONCE // len(self._vectors))
        for start in range(0, moments.height, step):
            rows = slice(start, min(start + step, moments.height))
            states, has_events = self.states(moments[rows])
            scores = states @ self._vectors.T
            scores.masked_fill_(self._unknown, LOWEST_SCORE)
            scores[~has_events] = self._retriever.events.float()
            if until is not None:
                starts, ends = self.events.starts[moments["user_index"][rows].to_numpy()], until[rows]
                row, event = np.repeat(np.arange(len(ends)), ends - starts), places_of(starts, ends)
                scores[torch.from_numpy(row), torch.from_numpy(self.events.item_index[event])] = -torch.inf
            yield rows, scores

    @torch.inference_mode()
    def scores_of(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the scores of items at rows of the moments, as in `blocks`, without those of others: (pairs,)."""
        states, has_events = self.states(moments)
        rows, items = (torch.from_numpy(each.astype(np.int64)).to(self._device) for each in (row, item))
        scores = torch.einsum("nd,nd->n", states[rows], self._vectors[items]).masked_fill_(
            self._unknown[items], LOWEST_SCORE
        )
        return torch.where(has_events[rows], scores, self._retriever.events[items].float()).cpu().numpy()

    @torch.inference_mode()
    def states(self, moments: pl.DataFrame) -> tuple[Tensor, Tensor]:
        """Return the states at moments, (moments, dim), and whether each has events, without which it is void."""
        events = recent_events(moments, self.events, self._retriever.config.length)
        mask = torch.from_numpy(events >= 0).to(self._device)
        items = torch.from_numpy(self.events.item_index[events.clip(0)]).to(self._device)
        return last_event(self._retriever(self._vectors[items]), mask), mask.any(dim=1)


@torch.inference_mode()
def with_retrieved_negatives(log: InteractionLog, retriever: Retriever, first: int, seed: int) -> InteractionLog:
    """Replace the drawn negatives of the training and validation splits by items that a retriever ranks high.

    Each is drawn from the `first` items with the highest scores for the history that it shares with its like, without
    items that the user takes until the split ends; it stays unchanged if none is left. Rated samples and test samples
    stay. ValueError is raised where no negative was drawn, or all are impressions without a click.
    """
    random = np.random.default_rng(seed)
    own_item = pl.Series(log.sequences.item_index).gather(log.samples["event"])
    end = pl.col("event").max().over("user_index", "split") + 1
    learned = pl.col("split").is_in(["train", "validation"])
    behind_own = pl.col("event") == pl.col("event").shift()  # impressions come in the order of their items
    drawn = log.samples.with_columns(end=end, behind_own=behind_own)
    drawn = drawn.filter(learned, pl.col("item_index") != own_item, label=0)
    if drawn.is_empty() or not drawn["behind_own"].all():
        raise ValueError(
            f"lens.retrieved_negatives is {first}, but the history step sampled no negatives to replace: set "
            "history.negatives.kind to matched or uniform or, for a log of impressions, lens.retrieved_negatives to 0."
        )
    items, numbers = log.samples["item_index"].to_numpy(writable=True), drawn["row"].to_numpy()
    for rows, scores in RetrieverReader(retriever, log).blocks(drawn, drawn["end"].to_numpy()):
        best = scores.topk(min(first, scores.shape[1]))
        left = best.values.isfinite().sum(dim=1).cpu().numpy()
        place = (random.random(len(left)) * left).astype(np.int64)
        chosen = best.indices.cpu().numpy()[np.arange(len(left)), place]
        items[numbers[rows]] = np.where(left > 0, chosen, items[numbers[rows]])
    return replace(log, samples=log.samples.with_columns(item_index=pl.Series(items)))


class ItemIndex:
    """Finds the items with the greatest products with a state, without the products with all items.

    k-means divides the vectors into lists, where each number of a vector is kept in 4 bits. A search reads the lists
    whose centroids have the greatest products with the state, and computes exact products of the best items there
    (Faiss's IVF, PQ and refinement). The index is built in one thread, so that it is the same for a seed.
    Vectors are float32, (n, dim), n at least 16; `items` has their items' indices, int64, (n,).
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
