"""Boosted trees of all features of candidates, which correct the order of the fusion."""

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.recommendation.features import Lists

ROUNDS = 100
SETTINGS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""Chosen on validation likes of Amazon Beauty; `lambdarank_truncation_level` is twice the length of a list."""


def learn_trees(lists: Lists, base: np.ndarray, seed: int) -> str | None:
    """Train trees that, added to base scores, (candidates,), rank liked items first; return LightGBM's text of them.

    It is None if likes are too few to split. The loss is LambdaMART (Burges, From RankNet to LambdaRank to LambdaMART,
    2010).
    """
    import lightgbm

    features, liked, sizes = lists.features.to_numpy(), lists.liked.astype(np.int8), np.bincount(lists.moment)
    data = lightgbm.Dataset(features, liked, group=sizes, init_score=base, feature_name=lists.features.columns)
    booster = lightgbm.train(SETTINGS | {"seed": seed}, data, ROUNDS)
    return booster.model_to_string(importance_type="gain") if booster.feature_importance("gain").any() else None


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
