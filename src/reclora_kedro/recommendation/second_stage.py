"""Orders of the best items of sources: the fusion, the ranker, and the lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from scipy.special import expit

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.item_model import ItemModel, NoSettings, Training
from reclora_kedro.candidates.moments import NO_ITEM, Lists, Moments
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.evaluation.figures import plot_second_stage
from reclora_kedro.recommendation.diversity import marginal_relevance
from reclora_kedro.recommendation.features import RANK, CandidateReader, TaughtLists, read_lists

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reclora_kedro.lens.states import LensReader

NOTES = {
    "fusion": "the sources' best items, by a weighted sum of log ranks, trained on validation likes",
    "ranker": "the fusion, corrected by trees on ranks, scores, popularity, age and texts, trained on validation likes",
    "lens": "all items, by the click model",
}
LABELS = {
    "fusion": "weighted combination of all sources",
    "ranker": "the fusion, corrected by boosted trees",
}
PENALTY = 1e-3  # of the squares of the weights of columns with a standard deviation of one, per like
ROUNDS, PATIENCE = 300, 20
FOLDS = 3  # of the users whose likes teach: those of each tell how many trees of the others are best
LEAST_USERS = 60
SETTINGS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""Chosen on validation likes of Amazon Beauty; `lambdarank_truncation_level` is twice the length of a list."""


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
        weights = learn_weights(lists)
        return cls(weights=weights, trees=learn_trees(lists, fused_scores(lists.features, weights), seed))

    def figure(self) -> go.Figure:
        """Draw the gain of the trees by feature, and the weights."""
        return plot_second_stage({} if self.trees is None else importance(self.trees), self.weights or {})

    def score(self, kind: str, features: pl.DataFrame) -> np.ndarray:
        """Return the scores of candidates by `fusion` or `ranker`."""
        base = fused_scores(features, self.weights)
        return base if kind == "fusion" or self.trees is None else base + scores_of_trees(features, self.trees)


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
            lists.items[is_known], lists.scores[is_known], _ = self._of_known(moments[is_known], limit)
        lists.items[~is_known] = self.popularity.top(moments[~is_known], limit).items
        return lists

    def _of_known(self, moments: Moments, limit: int) -> Lists:
        if self.vectors is None:
            return self.first.top(moments, limit)
        items, scores, _ = self.first.top(moments, max(limit, self.shortlist))
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


def fused_scores(features: pl.DataFrame, weights: Mapping[str, float] | None) -> np.ndarray:
    """Return weighted sums of candidates' features, see `Candidates`; without weights, sums of all ranks."""
    if not weights:
        weights = {name: 1.0 for name in features.columns if name.endswith(RANK)}
    return features.select(*weights).to_numpy() @ np.array(list(weights.values()))


def learn_weights(lists: TaughtLists) -> dict[str, float]:
    """Return the nonnegative weights with the highest likelihood of likes among the candidates of their moments.

    They weigh the logarithms of the sources' ranks in a conditional logit (McFadden, Conditional logit analysis of
    qualitative choice behavior, 1974).
    """
    from scipy.optimize import minimize

    names = [name for name in lists.features.columns if name.endswith(RANK)]
    values = lists.features.select(names).to_numpy().astype(np.float64)
    liked, moment, scale = lists.liked, lists.moment, np.maximum(values.std(axis=0), 1e-6)
    values = values / scale
    starts, likes = np.flatnonzero(np.diff(moment, prepend=-1)), np.bincount(moment, liked)
    total, count = values[liked].sum(axis=0), likes.sum()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = values @ weights
        greatest = np.maximum.reduceat(scores, starts)
        odds = np.exp(scores - greatest[moment])
        sums = np.add.reduceat(odds, starts)
        lost = likes @ (greatest + np.log(sums)) - weights @ total
        gradient = (odds * (likes / sums)[moment]) @ values - total
        return lost / count + PENALTY * weights @ weights, gradient / count + 2 * PENALTY * weights

    bounds = [(0, None)] * values.shape[1]
    optimum = minimize(loss, np.full(values.shape[1], 0.1), jac=True, method="L-BFGS-B", bounds=bounds)
    return {name: weight for name, weight in zip(names, (optimum.x / scale).tolist(), strict=True) if weight}


def learn_trees(lists: TaughtLists, base: np.ndarray, seed: int) -> str | None:
    """Train trees that, added to base scores, (candidates,), rank liked items first; return LightGBM's text of them.

    Their number has the highest NDCG@10 over the folds of a cross-validation. It is None if trees do not improve that,
    or if likes are too few. The loss is LambdaMART (Burges, From RankNet to LambdaRank to LambdaMART, 2010).
    """
    import lightgbm

    users = np.random.default_rng(seed).permutation(np.unique(lists.user))
    if len(users) < LEAST_USERS:
        return None
    validates = [np.isin(lists.user, own) for own in np.array_split(users, FOLDS)]
    settings = SETTINGS | {"seed": seed}
    validated: Any = lightgbm.cv(
        settings,
        _data(lists, base),
        ROUNDS,
        folds=[(np.flatnonzero(~own), np.flatnonzero(own)) for own in validates],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )["valid ndcg@10-mean"]
    if max(validated) <= np.mean([_ndcg_of_base(lists, base, own) for own in validates]):
        return None
    booster = lightgbm.train(settings, _data(lists, base), len(validated))
    if not booster.feature_importance("gain").any():
        return None
    return booster.model_to_string(importance_type="gain")


def _data(lists: TaughtLists, base: np.ndarray) -> Any:
    import lightgbm

    sizes = np.unique(lists.moment, return_counts=True)[1]
    features, liked = lists.features.to_numpy(), lists.liked.astype(np.int8)
    return lightgbm.Dataset(features, liked, group=sizes, init_score=base, feature_name=lists.features.columns)


def _ndcg_of_base(lists: TaughtLists, base: np.ndarray, rows: np.ndarray) -> float:
    """Return the mean NDCG@10 of moments by the base scores alone, as LightGBM measures that of the trees."""
    moment, scores, liked = lists.moment[rows], base[rows], lists.liked[rows]
    order = np.lexsort((np.arange(len(moment)), -scores, moment))
    starts = np.flatnonzero(np.diff(moment[order], prepend=-1))
    rank = 1 + np.arange(len(moment)) - np.repeat(starts, np.diff(starts, append=len(moment)))
    hits = liked[order]
    return float(((rank <= 10) / np.log2(1.0 + rank))[hits].sum() / len(starts))


def scores_of_trees(features: pl.DataFrame, trees: str) -> np.ndarray:
    """Return what the trees add to the scores of candidates, by their features, see `Candidates`: (candidates,)."""
    booster = _booster(trees)
    return booster.predict(features.select(booster.feature_name()).to_numpy(), num_threads=1)


def importance(trees: str) -> dict[str, float]:
    """Return the share of each feature in the gain of all splits, the greatest first."""
    booster = _booster(trees)
    gain = booster.feature_importance("gain")
    shares = dict(zip(booster.feature_name(), (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


@lru_cache(maxsize=4)
def _booster(trees: str) -> Any:  # a lightgbm.Booster, whose package is imported where it is needed
    import lightgbm

    return lightgbm.Booster(model_str=trees)
