"""Boosted trees of all features of candidates, which correct the order of the fusion."""

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.recommendation.features import TaughtLists

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


def score(features: pl.DataFrame, trees: str) -> np.ndarray:
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
