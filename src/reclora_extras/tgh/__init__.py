"""TGH: items within three steps of the user's latest one, nearest texts first, without any training.

Method: Han et al., An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential
Recommendation (arXiv 2605.07125), in the variant with one source.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training
from reclora_kedro.candidates.linear import Texts
from reclora_kedro.candidates.moments import Moments
from reclora_kedro.evaluation.styles import Style

QUOTAS = (7, 2, 1)  # first items of each ring, in lists of ten
EDGE_WEIGHT = 0.5  # of the logarithm of how often an item came next, beside a cosine
MOST = 100  # items kept of each ring


@dataclass(frozen=True, eq=False)
class TransitionRings(ItemModel):
    """Items that others took next after the user's latest item, then those next after these, in three rings.

    Ring n holds the items at n steps, and not fewer, in the directed graph of consecutive training events. Within a
    ring, items are ordered by the cosine of their TF-IDF vector with that of the latest item; in the first ring,
    ``EDGE_WEIGHT * log(1 + count) / log(1 + greatest count of the latest item)`` is added.
    """

    NOTE: ClassVar = "items that others took next after the user's latest one, in three rings, nearest texts first"
    LABEL: ClassVar = "taken within three steps after the latest one"
    STYLE: ClassVar = Style("#8C6D31", "hexagon", "dash")

    next_items: csr_array  # how often an item came next after one, int, shape (items, items)
    texts: Texts | None  # TF-IDF vectors of the items' descriptions; None if these have too few words
    _rings: dict[int, list[np.ndarray]] = field(default_factory=dict)

    @classmethod
    def fit(cls, training: Training, settings: NoSettings) -> Self:
        event = np.flatnonzero(training.is_training_event)
        user, item = training.user[event], training.log.sequences.item_index[event].astype(np.int64)
        follows = (user[1:] == user[:-1]) & (item[1:] != item[:-1])
        pairs, count = np.unique(item[:-1][follows] * training.items + item[1:][follows], return_counts=True)
        shape = (training.items, training.items)
        next_items = csr_array((count, np.divmod(pairs, training.items)), shape=shape)
        return cls(next_items, training.once("texts", lambda: Texts.from_log(training.log)))

    def scores(self, moments: Moments) -> csr_array:
        """Return one over the place of each item in a moment's list, which all other items follow."""
        found = [np.empty(0, dtype=np.int64)] * len(moments)
        for row in np.flatnonzero(moments.has_events).tolist():
            latest = int(moments.events.item_index[moments.ends[row] - 1])
            rings = self._rings[latest] if latest in self._rings else self._find(latest)
            found[row] = in_one_list([ring[moments.allows(row, ring)] for ring in rings])
        ends = np.cumsum([0, *map(len, found)])
        items = np.concatenate(found)
        place = np.arange(len(items)) - np.repeat(ends[:-1], np.diff(ends))
        return csr_array((1 / (1 + place), items, ends), shape=(len(moments), moments.items))

    def _find(self, latest: int) -> list[np.ndarray]:
        """Return and keep the items of an item's rings, best first."""
        reached, ring, rings = np.array([latest]), np.array([latest]), list[np.ndarray]()
        for _ in QUOTAS:
            ring = np.setdiff1d(self.next_items[ring].indices, reached)
            rings.append(ring[np.argsort(-self._similarity(latest, ring, direct=not rings), kind="stable")][:MOST])
            reached = np.union1d(reached, ring)
        self._rings[latest] = rings
        return rings

    def _similarity(self, latest: int, items: np.ndarray, direct: bool) -> np.ndarray:
        similarity = np.zeros(len(items))
        if self.texts is not None:
            vectors, of_item = self.texts.vectors, self.texts.of_item
            similarity += (vectors[of_item[items]] @ vectors[of_item[[latest]]].T).toarray().ravel()
        if direct and len(items):
            counts = np.log1p(self.next_items[[latest]].toarray().ravel()[items])
            similarity += EDGE_WEIGHT * counts / counts.max()
        return similarity


def in_one_list(rings: list[np.ndarray]) -> np.ndarray:
    """Return the quota of each ring, one after the other, then the others; others fill up for rings of too few items.

    Examples:
        >>> in_one_list([np.arange(9), np.array([10]), np.array([20, 21])])
        array([ 0,  1,  2,  3,  4,  5,  6,  7, 10, 20,  8, 21])
    """
    first, others = list[int](), list[int]()
    for ring, quota in zip(rings, QUOTAS, strict=True):
        filling = others[: max(0, quota - len(ring))]
        own = quota - len(filling)
        first += filling + ring[:own].tolist()
        others = others[len(filling) :] + ring[own:].tolist()
    return np.array(first + others, dtype=np.int64)
