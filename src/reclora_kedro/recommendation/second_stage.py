"""Orders of the best items of sources: the fusion, the ranker, and the lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from scipy.special import expit

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training
from reclora_kedro.candidates.moments import NO_ITEM, Lists, Moments
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.recommendation import fusion, ranker
from reclora_kedro.recommendation.diversity import marginal_relevance
from reclora_kedro.recommendation.features import CandidateReader, read_lists

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reclora_kedro.lens.states import LensReader

NOTES = {
    "fusion": "the sources' best items, by the logarithms of their ranks, weighted by validation likes",
    "ranker": "the fusion, corrected by trees of ranks, scores, popularity, age and texts, by validation likes",
    "lens": "all items, by the click model",
}
LABELS = {
    "fusion": "the best of all of these, weighted",
    "ranker": "the fusion, corrected by boosted trees",
}


class ListMaker(Protocol):
    """Makes lists of items: an item model, or an order of what models find."""

    def top(self, moments: Moments, limit: int) -> Lists:
        """Return the best items that each moment may get."""


class SecondStage(Block):
    """Trained parameters of the second stage."""

    weights: Mapping[str, float] | None = None  # of the features, for `fusion`; None for equal weights of all ranks
    trees: str | None = None  # LightGBM's text of what `ranker` adds to the fusion's scores; None to add nothing

    @classmethod
    def learned(
        cls, reader: CandidateReader, moments: Moments, target: np.ndarray, seed: int, engine: EngineConfig = LOCAL
    ) -> Self:
        """Train on likes, see `read_lists`; parameters are None if no source finds any of them."""
        lists = read_lists(reader, moments, target, engine)
        if lists is None:
            return cls()
        weights = fusion.learn_weights(lists)
        return cls(weights=weights, trees=ranker.learn_trees(lists, fusion.score(lists.features, weights), seed))

    def figure(self) -> go.Figure:
        """Draw the gain of the trees by feature, and the weights."""
        from reclora_kedro.evaluation.figures import plot_second_stage

        return plot_second_stage({} if self.trees is None else ranker.importance(self.trees), self.weights or {})

    def score(self, kind: str, features: pl.DataFrame) -> np.ndarray:
        """Return the scores of candidates by `fusion` or `ranker`."""
        base = fusion.score(features, self.weights)
        return base if kind == "fusion" or self.trees is None else base + ranker.score(features, self.trees)


@dataclass(frozen=True, eq=False)
class Ordered:
    """The best items of all sources, by a second stage; other items follow in the order of equals, without scores."""

    reader: CandidateReader
    stage: SecondStage
    kind: str

    def top(self, moments: Moments, limit: int) -> Lists:
        candidates = self.reader.read(moments)
        scores = self.stage.score(self.kind, candidates.features)
        lists = Lists.empty(len(moments), limit)
        by_score = np.lexsort((np.arange(len(scores)), -scores, candidates.row))
        row, item, scores = candidates.row[by_score], candidates.item[by_score], scores[by_score]
        rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(moments)))[row]
        kept = rank < limit
        lists.items[row[kept], rank[kept]], lists.scores[row[kept], rank[kept]] = item[kept], scores[kept]
        for short in np.flatnonzero(lists.items[:, -1] == NO_ITEM).tolist():
            own = lists.items[short][lists.items[short] != NO_ITEM]
            others = moments.first(short, limit - len(own), without=own)
            lists.items[short, len(own) : len(own) + len(others)] = others
        return lists


@dataclass(frozen=True, eq=False)
class Reranked:
    """The first items of a list by the lens's probability of a like; the others stay behind, without scores."""

    first: ListMaker
    lens: LensReader
    shortlist: int  # number of the first items

    def top(self, moments: Moments, limit: int) -> Lists:
        lists = self.first.top(moments, max(limit, self.shortlist))
        scores = np.full(lists.scores.shape, np.nan)
        row, place = np.nonzero(lists.items[:, : self.shortlist] != NO_ITEM)
        if len(row):
            logits = self.lens.logits(moments.pairs(row, lists.items[row, place]))
            scores[row, place] = expit(logits.numpy().astype(np.float64))
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")
        items, scores = (np.take_along_axis(each, order, axis=1) for each in (lists.items, scores))
        return Lists(items[:, :limit], scores[:, :limit])


@dataclass(frozen=True, eq=False)
class Delivered:
    """The lists of a method as users get them: popular items where they have no events, unlike ones if asked for."""

    first: ListMaker
    popularity: ItemModel
    vectors: np.ndarray | None  # of items, by which the first items of a list are made unlike; None for no such change
    diversity: float  # how strongly, see `marginal_relevance`
    shortlist: int  # number of the first items, which then have no scores

    def top(self, moments: Moments, limit: int) -> Lists:
        is_known = moments.has_events
        if is_known.all():  # so that what is made of these moments serves further calls
            return self._of_known(moments, limit)
        lists = Lists.empty(len(moments), limit)
        if is_known.any():
            lists.items[is_known], lists.scores[is_known] = self._of_known(moments[is_known], limit)
        lists.items[~is_known] = self.popularity.top(moments[~is_known], limit).items
        return lists

    def _of_known(self, moments: Moments, limit: int) -> Lists:
        if self.vectors is None:
            return self.first.top(moments, limit)
        items, scores = self.first.top(moments, max(limit, self.shortlist))
        first = items[:, : self.shortlist]
        order = marginal_relevance(first, self.vectors, self.diversity, self.shortlist)
        items[:, : self.shortlist] = np.where(order >= 0, np.take_along_axis(first, order, axis=1), NO_ITEM)
        scores[:, : self.shortlist] = np.nan
        return Lists(items[:, :limit], scores[:, :limit])


@dataclass(frozen=True, eq=False)
class LensModel(ItemModel):
    """All items by the lens, to compare with; it takes the time of a forward pass per pair."""

    NOTE: ClassVar = NOTES["lens"]

    lens: LensReader

    @classmethod
    def fit(cls, training: Training, settings: NoSettings) -> Self:
        raise TypeError("The lens is trained by its own step.")

    def scores(self, moments: Moments) -> np.ndarray:
        row, item = np.divmod(np.arange(len(moments) * moments.items), moments.items)
        return self.lens.logits(moments.pairs(row, item)).numpy().reshape(len(moments), -1)
