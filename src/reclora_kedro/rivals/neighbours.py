"""Items by their neighbours among the events of a user: items that the same users took, and whose texts are alike."""

from typing import Annotated

import numpy as np
import polars as pl
import scipy.sparse
from pydantic import Field

from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import user_of_events
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
    item j, shared is not 0 for its nearest items alone.

    Args:
        log: the log, with item embeddings if the text has a weight.
        config: the powers and weights.
        known: whether users are counted by an event, shape (events,); None: by all of them.

    Attributes:
        similarity: the first term of each item j, by row, and i.
    """

    def __init__(self, log: InteractionLog, config: ItemNeighboursConfig, usable: np.ndarray | None = None) -> None:
        self._config, self._events = config, log.sequences
        offsets, item = self._events.offsets, self._events.item_index
        user = user_of_events(offsets).astype(np.int64)
        counted = np.flatnonzero(np.ones(len(item), dtype=bool) if usable is None else usable)
        after = np.searchsorted(user[counted], user[counted], side="right") - 1 - np.arange(len(counted))
        counted = counted[after < config.events]
        shape = (len(offsets) - 1, log.items.height)
        pairs = np.divmod(np.unique(user[counted] * shape[1] + item[counted]), shape[1])  # each user and item once
        taken = scipy.sparse.csr_array((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=shape)
        self.similarity = _nearest(taken, config)
        self._vectors = None
        if config.text_weight:
            assert log.item_embeddings is not None  # the caller reads them where the text has a weight
            vectors = log.item_embeddings.astype(np.float32)
            self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def scores(self, user: int, end: int) -> np.ndarray:
        """Score of every item for a user whose history ends before event `end`: shape (items,)."""
        start = max(self._events.offsets[user], end - self._config.events)
        history = self._events.item_index[start:end][::-1]
        weights = self._config.recency ** np.arange(len(history), dtype=np.float32)
        scores = self.similarity[history].T @ weights
        if self._vectors is not None:
            alike = np.clip(self._vectors[history] @ self._vectors.T, 0, None) ** 3
            scores += self._config.text_weight * (weights @ alike)
        return scores

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Scores of pairs with user_index, history_end and item_index: shape (pairs,)."""
        moments, moment = np.unique(pairs.select("user_index", "history_end").to_numpy(), axis=0, return_inverse=True)
        order = np.argsort(moment, kind="stable")
        scores, item = np.empty(pairs.height), pairs["item_index"].to_numpy()
        for (user, end), rows in zip(moments, np.split(order, np.cumsum(np.bincount(moment))[:-1]), strict=True):
            scores[rows] = self.scores(user, end)[item[rows]]
        return scores


def _nearest(taken: scipy.sparse.csr_array, config: ItemNeighboursConfig) -> scipy.sparse.csr_array:
    """The likeness of each item, by row, to those that are nearest to it; of equals the first ones."""
    items = taken.shape[1]
    scale = np.maximum(taken.sum(axis=0), 1) ** -config.popularity_power
    by_item, parts = taken.T.tocsr(), []
    for first in range(0, items, step := max(1, PAIRS_AT_ONCE // items)):
        shared = (by_item[first : first + step] @ taken).tocoo()
        row = first + shared.row
        near = pl.DataFrame({"row": row, "column": shared.col, "weight": shared.data * scale[row] * scale[shared.col]})
        rank = pl.col("weight").rank("ordinal", descending=True).over("row")
        parts.append(near.filter(pl.col("row") != pl.col("column")).filter(rank <= config.nearest))
    row, column, weight = pl.concat(parts).sort("row", "column")
    return scipy.sparse.csr_array((weight.cast(pl.Float32), (row, column)), shape=(items, items))
