"""Fusion of several sources by a conditional logit, with a weight per source."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from reclora_kedro.recommendation.features import RANK, TaughtLists

PENALTY = 1e-3  # of the squares of the weights of columns with a standard deviation of one, per like


def score(features: pl.DataFrame, weights: Mapping[str, float] | None) -> np.ndarray:
    """Return weighted sums of candidates' features, see `Candidates`; without weights, sums of all ranks."""
    if not weights:
        weights = {name: 1.0 for name in features.columns if name.endswith(RANK)}
    return features.select(*weights).to_numpy() @ np.array(list(weights.values()))


def learn_weights(lists: TaughtLists) -> dict[str, float]:
    """Return the nonnegative weights with the highest likelihood of likes among the candidates of their moments.

    They weigh the logarithms of the sources' ranks in a conditional logit (McFadden, Conditional logit analysis of
    qualitative choice behavior, 1974).
    """
    names = [name for name in lists.features.columns if name.endswith(RANK)]
    values = lists.features.select(names).to_numpy().astype(np.float64)
    weights = _conditional_logit(values, lists.liked, lists.moment)
    return {name: weight for name, weight in zip(names, weights, strict=True) if weight}


def _conditional_logit(values: np.ndarray, liked: np.ndarray, moment: np.ndarray) -> list[float]:
    """Return nonnegative weights of the candidates' columns that maximise the likelihood of the likes."""
    from scipy.optimize import minimize

    scale = np.maximum(values.std(axis=0), 1e-6)
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
    return (optimum.x / scale).tolist()
