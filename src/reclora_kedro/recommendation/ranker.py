"""Boosted trees of all features of candidates, which correct the order of the fusion."""

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.recommendation.features import TaughtLists

ROUNDS, PATIENCE = 300, 20
VALIDATION_SHARE = 0.2  # of the users whose likes teach, which stop the training
LEAST_VALIDATION_USERS = 20
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

    The likes of a fifth of the users stop the training. It is None if trees do not improve their NDCG@10, or if likes
    are too few. The loss is LambdaMART (Burges, From RankNet to LambdaRank to LambdaMART, 2010).
    """
    import lightgbm

    users = np.random.default_rng(seed).permutation(np.unique(lists.user))
    held_out = users[: int(VALIDATION_SHARE * len(users))]
    if len(held_out) < LEAST_VALIDATION_USERS:
        return None
    validates = np.isin(lists.user, held_out)
    learned, stopping = (_data(lists, base, rows) for rows in (~validates, validates))
    before = _ndcg_of_base(lists, base, validates)
    recorded: dict[str, Any] = {}
    booster = lightgbm.train(
        SETTINGS | {"seed": seed},
        learned,
        ROUNDS,
        valid_sets=[stopping],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False), lightgbm.record_evaluation(recorded)],
    )
    if max(recorded["valid_0"]["ndcg@10"]) <= before or not booster.feature_importance("gain").any():
        return None
    return booster.model_to_string(num_iteration=booster.best_iteration, importance_type="gain")


def _data(lists: TaughtLists, base: np.ndarray, rows: np.ndarray) -> Any:
    import lightgbm

    sizes = np.unique(lists.moment[rows], return_counts=True)[1]
    features, liked = lists.features.filter(rows).to_numpy(), lists.liked[rows].astype(np.int8)
    return lightgbm.Dataset(features, liked, group=sizes, init_score=base[rows], feature_name=lists.features.columns)


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
