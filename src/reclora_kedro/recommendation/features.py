"""The best items of several sources at given moments, with features for a second stage."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.history.item_facts import ItemFacts, moment_bounds
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT

BEST_PER_SOURCE = 50  # best items of each source that are ordered
LENS = "lens"
RANK, SCORE, GAP = "_rank", "_score", "_gap"


class Candidates(NamedTuple):
    """The best items of each source at given moments.

    Attributes:
        places: places of the candidates among the pairs that they were chosen from, by moment and then ascending.
        features: one row per candidate; for each source the rank (negative logarithm of 1, 2, …, greater is better),
            the score, and the score minus the moment's best; the lens's logit; and those of `ItemFacts`.
    """

    places: np.ndarray
    moment: np.ndarray
    features: pl.DataFrame


class CandidateReader:
    """Finds the 50 best items of each source, and computes their features, also the logits of `lens` if given."""

    def __init__(
        self, log: InteractionLog, facts: ItemFacts, scorers: Mapping[str, Scorer], lens: Scorer | None
    ) -> None:
        self._log, self._facts, self._scorers, self._lens = log, facts, dict(scorers), lens
        self._last: tuple[pl.DataFrame, Candidates] | None = None

    @property
    def ranks(self) -> list[str]:
        return [source + RANK for source in self._scorers]

    def read(self, pairs: pl.DataFrame) -> Candidates:
        """Return the candidates among pairs with item_index and the columns of `MOMENT`, consecutive by moment.

        Repeated calls with the same table return the first result.
        """
        last = self._last  # threads of a service may ask at once
        if last is None or last[0] is not pairs:
            self._last = last = pairs, self._read(pairs)
        return last[1]

    def _read(self, pairs: pl.DataFrame) -> Candidates:
        scores = np.stack([scorer(pairs) for scorer in self._scorers.values()], axis=1)
        bounds = moment_bounds(pairs)
        places, ranks, gaps = [np.empty(0, dtype=np.int64)], [scores[:0].astype(np.int64)], [scores[:0]]
        for start, stop in pairwise(bounds):
            moment_ranks = _ranks(scores[start:stop])
            best = np.flatnonzero((moment_ranks <= BEST_PER_SOURCE).any(axis=1))
            places.append(start + best)
            ranks.append(moment_ranks[best])
            gaps.append(scores[start + best] - scores[start:stop].max(axis=0))
        chosen = np.concatenate(places)
        moment = np.repeat(np.arange(len(bounds) - 1), [len(places_of_moment) for places_of_moment in places[1:]])
        features = self.features(pairs[chosen], np.concatenate(ranks), scores[chosen], np.concatenate(gaps))
        return Candidates(chosen, moment, features)

    def features(self, pairs: pl.DataFrame, ranks: np.ndarray, scores: np.ndarray, gaps: np.ndarray) -> pl.DataFrame:
        """Return the features of candidates, see `Candidates`.

        Args:
            ranks, scores, gaps: ranks from 1, scores, and these minus the moment's best, of each source: shape (pairs,
                sources).
        """
        columns = dict[str, np.ndarray]()
        for kind, values in ((RANK, -np.log(ranks)), (SCORE, scores), (GAP, gaps)):
            columns |= {source + kind: values[:, place] for place, source in enumerate(self._scorers)}
        if self._lens is not None:
            columns[LENS] = self._lens(pairs)
        columns |= self._facts.features(self._log, pairs)
        return pl.DataFrame(columns).cast(pl.Float32)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return the best ranks by each source's scores, (items, sources), one more for others; the earlier in ties."""
    most = min(BEST_PER_SOURCE, len(scores))
    ranks = np.full(scores.shape, most + 1)
    for source in range(scores.shape[1]):
        source_ranks = scores[:, source]
        least = np.partition(source_ranks, -most)[-most]
        best = np.flatnonzero(source_ranks >= least)
        order = best[np.argsort(-source_ranks[best], kind="stable")][:most]
        ranks[order, source] = np.arange(1, most + 1)
    return ranks


class Lists(NamedTuple):
    """Candidates of moments at which a user took some of them (`liked`), to train a second stage."""

    features: pl.DataFrame
    liked: np.ndarray
    moment: np.ndarray


def read_lists(reader: CandidateReader, blocks: Iterable[pl.DataFrame], likes: pl.DataFrame) -> Lists | None:
    """Return the candidates of the moments of likes that are among them; None if there are no such moments.

    Args:
        blocks: pairs of the likes' moments with all items that may be recommended, see `candidate_pairs`.
    """
    features, liked, moment, moments = [], [], [], 0
    marked = likes.select(*MOMENT, "item_index", like=pl.lit(True)).unique()
    for pairs in blocks:
        candidates = reader.read(pairs)
        keys = pairs[candidates.places].select(*MOMENT, "item_index")
        is_like = keys.join(marked, on=keys.columns, how="left", maintain_order="left")["like"].is_not_null().to_numpy()
        teaches = np.bincount(candidates.moment, is_like)[candidates.moment] > 0
        features.append(candidates.features.filter(teaches))
        liked.append(is_like[teaches])
        moment.append(moments + candidates.moment[teaches])
        moments += int(candidates.moment.max(initial=-1)) + 1
    if not sum(map(len, liked)):
        return None
    numbers = np.unique(np.concatenate(moment), return_inverse=True)[1]
    return Lists(pl.concat(features), np.concatenate(liked), numbers)
