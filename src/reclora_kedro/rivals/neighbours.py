"""Items by their neighbours among the events of a user: items that the same users took, and whose texts are alike."""

from copy import copy
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
import polars as pl
import scipy.sparse
from pydantic import Field

from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import Sequences, user_of_events
from reclora_kedro.parameters import Block, Count, NonNegative, Real
from reclora_kedro.rivals.base import Scorer

NOTE = "items that the same users took as those of the user's latest events, or whose texts are alike"
STYLE = Style("#17777B", "star-diamond", "dot")
PAIRS_AT_ONCE = 2**24  # pairs of items whose users are counted at once


class ItemNeighboursConfig(Block):
    """How items are scored by their likeness to a user's latest events; see `ItemNeighbours`."""

    events: Count
    nearest: Count
    recency: Annotated[Real, Field(gt=0, le=1)]
    popularity_power: NonNegative
    text_weight: NonNegative


def scorer(log: InteractionLog, config: ItemNeighboursConfig) -> Scorer:
    """Scores of pairs by the training events of all users, and the user's own until the pair's moment."""
    return ItemNeighbours(log, config, log.training_events()).score


class ItemNeighbours:
    """Scores of items from a user's latest events, after Sarwar et al., Item-based collaborative filtering (2001).

    An item i scores, with the user's events j_0, j_1, … from the latest one backwards::

        sum over k of recency^k * (shared(i, j_k) / (users(i) * users(j_k))^popularity_power
                                   + text_weight * max(0, cos(v_i, v_(j_k)))^3)

    where shared and users count the users who took both items, or one. Of each user the latest events count; of each
    item j, shared is not 0 for its nearest items alone. These are found when j is first asked for.

    Args:
        log: the log, with item embeddings if the text has a weight.
        config: the powers and weights.
        usable: whether users are counted by an event, shape (events,); None: by all of them.
    """

    def __init__(self, log: InteractionLog, config: ItemNeighboursConfig, usable: np.ndarray | None = None) -> None:
        self._config, self._events = config, log.sequences
        offsets, item = self._events.offsets, self._events.item_index
        user = user_of_events(offsets).astype(np.int64)
        counted = np.flatnonzero(np.ones(len(item), dtype=bool) if usable is None else usable)
        after = np.searchsorted(user[counted], user[counted], side="right") - 1 - np.arange(len(counted))
        counted = counted[after < config.events]
        self.items = log.items.height
        shape = (len(offsets) - 1, self.items)
        pairs = np.divmod(np.unique(user[counted] * shape[1] + item[counted]), shape[1])  # each user and item once
        self._taken = scipy.sparse.csr_array((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=shape)
        self._taken_by_item = self._taken.T.tocsr()
        self._scale = np.maximum(self._taken.sum(axis=0), 1) ** -config.popularity_power
        self._nearest: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._vectors = None
        if config.text_weight:
            assert log.item_embeddings is not None  # the caller reads them where the text has a weight
            vectors = log.item_embeddings.astype(np.float32)
            self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def beside(self, sequences: Sequences) -> Self:
        """The same for histories of other sequences, whose users are counted by none of their events."""
        neighbours = copy(self)
        neighbours._events = sequences
        return neighbours

    def nearest(self, items: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The items nearest to each of some items, ascending, and the first term of each: two arrays per item."""
        missing = np.array(sorted({*items.tolist()} - self._nearest.keys()), dtype=np.int64)
        step = max(1, PAIRS_AT_ONCE // self.items)
        for rows in np.split(missing, range(step, len(missing), step)) if len(missing) else ():
            self._find_nearest(rows)
        return [self._nearest[item] for item in items.tolist()]

    def _find_nearest(self, items: np.ndarray) -> None:
        """Find the items nearest to some items; of equals the first ones."""
        shared = (self._taken_by_item[items] @ self._taken).tocoo()
        weight = shared.data * self._scale[items[shared.row]] * self._scale[shared.col]
        near = pl.DataFrame({"row": shared.row, "column": shared.col, "weight": weight})
        rank = pl.col("weight").rank("ordinal", descending=True).over("row")
        near = near.filter(items[shared.row] != shared.col).filter(rank <= self._config.nearest)
        row, column, weight = (part.to_numpy() for part in near.sort("row", "column"))
        ends = np.searchsorted(row, np.arange(1, len(items)))
        parts = zip(np.split(column, ends), np.split(weight.astype(np.float32), ends), strict=True)
        self._nearest.update(zip(items.tolist(), parts, strict=True))

    def latest(self, user: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Items of the user's events before event `end`, the latest first, and what each event weighs."""
        start = max(self._events.offsets[user], end - self._config.events)
        history = self._events.item_index[start:end][::-1]
        return history, self._config.recency ** np.arange(len(history), dtype=np.float32)

    def likeness(self, item: int) -> np.ndarray:
        """Of an item j to every item i, both terms: float32, shape (items,)."""
        [(near, weights)] = self.nearest(np.array([item]))
        likeness = np.zeros(self.items, dtype=np.float32)
        likeness[near] = weights
        if self._vectors is not None:
            likeness += self._config.text_weight * np.clip(self._vectors @ self._vectors[item], 0, None) ** 3
        return likeness

    def scores(self, user: int, end: int) -> np.ndarray:
        """Score of every item for a user whose history ends before event `end`: shape (items,)."""
        history, weights = self.latest(user, end)
        if len(history) == 0:
            return np.zeros(self.items, dtype=np.float32)
        items, likeness = zip(*self.nearest(history), strict=True)
        weight = np.repeat(weights, list(map(len, items))) * np.concatenate(likeness)
        scores = np.bincount(np.concatenate(items), weight, minlength=self.items).astype(np.float32)
        if self._vectors is not None:
            alike = np.maximum(self._vectors[history] @ self._vectors.T, 0)
            scores += self._config.text_weight * (weights @ (alike * alike * alike))  # a power takes six times as long
        return scores

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Scores of pairs with user_index, history_end and item_index: shape (pairs,)."""
        user, end, item = (pairs[name].to_numpy() for name in ("user_index", "history_end", "item_index"))
        is_first = (np.diff(user, prepend=-1) != 0) | (np.diff(end, prepend=-1) != 0)  # of a moment
        starts = np.flatnonzero(is_first)
        histories = [self.latest(user[start], end[start])[0] for start in starts]
        self.nearest(np.concatenate([np.empty(0, int), *histories]))
        scores = np.empty(pairs.height)
        for start, stop in pairwise([*starts, pairs.height]):
            scores[start:stop] = self.scores(user[start], end[start])[item[start:stop]]
        return scores
