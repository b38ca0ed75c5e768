"""One order of what several sources find: by a conditional logit, learned from likes of the validation split."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import minimize

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.histories.questions import MOMENT

LENS = "lens"
"""Name of the lens's logit among the weights; the others are of sources."""
MOST = 100  # best items of each source that are ordered
PENALTY = 1e-3  # of the squares of the weights of columns with a standard deviation of one, per like


class Candidates(NamedTuple):
    """The best items of each source at some moments.

    Attributes:
        places: of the candidates among the pairs that they were chosen from, by moment and then ascending.
        moment: number of each candidate's moment, from 0.
        columns: the logarithm of each source's rank, less than 0, and the lens's logit: shape (candidates, weights).
    """

    places: np.ndarray
    moment: np.ndarray
    columns: np.ndarray


def best_of_sources(pairs: pl.DataFrame, scorers: Mapping[str, Scorer], lens: Scorer | None) -> Candidates:
    """Return the 100 best items of each source at each moment.

    Args:
        pairs: with item_index and the columns of `MOMENT`; those of a moment stand together.
        scorers: of the sources.
        lens: its logits; None: they are no column.
    """
    scores = np.stack([scorer(pairs) for scorer in scorers.values()], axis=1)
    number = pairs.select(moment=pl.struct("user_index", "history_end").rle_id()).to_series().to_numpy()
    starts = np.append(np.flatnonzero(np.diff(number, prepend=-1)), pairs.height)
    places, columns = [np.empty(0, dtype=np.int64)], [np.empty((0, len(scorers)))]
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        ranks = _ranks(scores[start:stop])
        best = np.flatnonzero((ranks <= MOST).any(axis=1))
        places.append(start + best)
        columns.append(-np.log(ranks[best]))
    chosen = np.concatenate(places)
    found = np.concatenate(columns)
    if lens is not None:
        found = np.column_stack([found, lens(pairs[chosen])])
    return Candidates(chosen, number[chosen].astype(np.int64), found)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks by each source's scores, (items, sources), of equals the earlier first; beyond the best ones, one more."""
    most = min(MOST, len(scores))
    ranks = np.full(scores.shape, most + 1)
    for source in range(scores.shape[1]):
        of_source = scores[:, source]
        least = np.partition(of_source, -most)[-most]
        best = np.flatnonzero(of_source >= least)
        order = best[np.argsort(-of_source[best], kind="stable")][:most]
        ranks[order, source] = np.arange(1, most + 1)
    return ranks


class Fusion:
    """Scores of items by a weighted sum of the logarithms of their ranks by several sources, and of a lens's logit.

    What is not among the 100 best of any source comes last.

    Args:
        scorers: of the sources, by name.
        weights: of the sources, 0 or more, and of `LENS`; None: 1 of each source.
        lens: logits of a lens; read where they have a weight.
    """

    def __init__(self, scorers: Mapping[str, Scorer], weights: Mapping[str, float] | None, lens: Scorer | None) -> None:
        weights = dict.fromkeys(scorers, 1.0) if weights is None else weights
        self._scorers = {source: scorer for source, scorer in scorers.items() if weights.get(source)}
        self._lens = lens if weights.get(LENS) else None
        self._weights = np.array([weights[name] for name in (*self._scorers, *([LENS] if self._lens else []))])

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the scores of pairs with item_index and the columns of `MOMENT`, those of a moment together."""
        found = best_of_sources(pairs, self._scorers, self._lens)
        own = found.columns @ self._weights
        scores = np.full(pairs.height, own.min(initial=0) - 1)
        scores[found.places] = own
        return scores


def learn_weights(
    blocks: Iterator[pl.DataFrame], likes: pl.DataFrame, scorers: Mapping[str, Scorer], lens: Scorer | None
) -> dict[str, float] | None:
    """Return the weights of `Fusion` by which likes are likeliest among the candidates of their moments.

    A conditional logit (McFadden, Conditional logit analysis of qualitative choice behavior, 1974), whose weights are 0
    or more. Moments of which no source finds a like teach nothing; None if all are such.

    Args:
        blocks: the pairs of the likes' moments with all items that may be recommended, see `candidate_pairs`.
        likes: what users took, with item_index and the columns of `MOMENT`.
        scorers: of the sources, by what they knew before the likes.
        lens: likewise.
    """
    columns, liked, moment, moments = [], [], [], 0
    marked = likes.select(*MOMENT, "item_index", like=pl.lit(True))
    for pairs in blocks:
        found = best_of_sources(pairs, scorers, lens)
        keys = pairs[found.places].select(*MOMENT, "item_index")
        is_like = keys.join(marked, on=keys.columns, how="left", maintain_order="left")["like"].is_not_null().to_numpy()
        teaches = np.bincount(found.moment, is_like)[found.moment] > 0
        columns.append(found.columns[teaches])
        liked.append(is_like[teaches])
        moment.append(moments + found.moment[teaches])
        moments += int(found.moment.max(initial=-1)) + 1
    if not columns or not sum(map(len, columns)):
        return None
    names = [*scorers, *([] if lens is None else [LENS])]
    numbers = np.unique(np.concatenate(moment), return_inverse=True)[1]
    return dict(zip(names, _conditional_logit(np.concatenate(columns), np.concatenate(liked), numbers), strict=True))


def _conditional_logit(values: np.ndarray, liked: np.ndarray, moment: np.ndarray) -> list[float]:
    """Weights, 0 or more, of the columns of candidates, by moment, that make what was liked likeliest there."""
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
    found = minimize(loss, np.full(values.shape[1], 0.1), jac=True, method="L-BFGS-B", bounds=bounds)
    return (found.x / scale).tolist()
