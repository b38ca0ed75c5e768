"""Retriever: a next-item model of the `candidates` pipeline, such as SASRec, over the whole catalogue."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from reclora_kedro.candidates.item_model import ItemModel, Training
from reclora_kedro.candidates.moments import NO_ITEM, Lists, Moments
from reclora_kedro.evaluation.styles import Style

INDEXED_FROM = 200_000
"""Items from which on an approximate index finds the best ones: benchmarks/large_catalogue.py has its recall."""
SEARCHED_AT_ONCE = 2**20  # found items that are compared with hidden ones at once


@dataclass(frozen=True, eq=False)
class RetrieverModel(ItemModel):
    """A trained next-item model: the product of a user's state with an item's vector.

    A user without events gets the popularity in the training split; items that cannot be scored come last. From
    `INDEXED_FROM` items on, an index finds the best ones, and scores are computed for these alone.
    """

    NOTE: ClassVar = "a next-item model, trained on the whole catalogue"
    LABEL: ClassVar = "next-item model"
    STYLE: ClassVar = Style("#2E8B57", "star-triangle-up", "dash")

    reader: Any  # a RetrieverReader, whose module imports torch
    index: Any | None  # an ItemIndex

    @classmethod
    def fit(cls, training: Training, settings: Any) -> Self:
        """Read the trained retriever of the training; raise ValueError if there is none."""
        from reclora_kedro.candidates.next_item.reader import ItemIndex, RetrieverReader

        if (retriever := training.retriever) is None:
            raise ValueError(
                "recommendation.sources, now or when methods were compared, names retriever, but this run loads none: "
                "run `kedro run --pipelines candidates`, and name retriever in this run, too. Or leave it out, and "
                "compare methods again with `kedro run --pipelines recommendation`."
            )
        index = None
        if training.items >= INDEXED_FROM:
            index = training.once("retriever_index", lambda: ItemIndex.from_retriever(retriever))
        reader = training.once("retriever_reader", lambda: RetrieverReader(retriever, training.log))
        return cls(reader, index)

    def scores(self, moments: Moments) -> np.ndarray:
        reader = self.reader.with_events(moments.events)
        return np.concatenate([scores.cpu().numpy() for _, scores in reader.blocks(moments.frame)])

    def top(self, moments: Moments, limit: int) -> Lists:
        if self.index is None:
            return super().top(moments, limit)
        lists = Lists.empty(len(moments), limit)
        missing = self._search(self.index, moments, limit, lists)
        if len(missing):  # most of what the index finds is hidden, or there are no events: exact scores
            exact = super().top(moments[missing], limit)
            lists.items[missing], lists.scores[missing], _ = exact
        return lists

    def score(self, moments: Moments, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        if self.index is None:
            return super().score(moments, row, item)
        return self.reader.with_events(moments.events).scores_of(moments.frame, row, item)

    def _search(self, index: Any, moments: Moments, limit: int, lists: Lists) -> np.ndarray:
        """Write the lists that the index finds; return the rows of the others."""
        reader = self.reader.with_events(moments.events)
        hidden = np.array([len(items) for items in moments.hidden], dtype=np.int64)
        is_open = np.array([only is None for only in moments.allowed]) & moments.has_events
        # One search finds equally many for all its states: powers of two make few searches.
        counts, is_short = 2 ** np.ceil(np.log2(limit + hidden)).astype(np.int64), ~is_open
        for count in np.unique(counts[is_open]).tolist():
            of_count, step = np.flatnonzero(is_open & (counts == count)), max(1, SEARCHED_AT_ONCE // count)
            for rows in np.split(of_count, range(step, len(of_count), step)):
                states, _ = reader.states(moments.frame[rows])
                found = index.search(states.cpu().numpy(), count)
                for row, items in zip(rows.tolist(), found, strict=True):
                    items = items[items != NO_ITEM]
                    items = items[moments.allows(row, items)][:limit]
                    lists.items[row, : len(items)] = items
                    is_short[row] = len(items) < limit
        row, place = np.nonzero(lists.items != NO_ITEM)
        lists.scores[row, place] = reader.scores_of(moments.frame, row, lists.items[row, place])
        return np.flatnonzero(is_short)
