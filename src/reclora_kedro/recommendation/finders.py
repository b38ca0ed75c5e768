"""The best items of sources, found without scoring every item, for catalogues of more than `exact_items`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.baselines.popularity import Popularity
from reclora_kedro.candidates.index import NO_ITEM, NOTHING
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.recommendation.features import BEST_PER_SOURCE, CandidateReader

MOMENTS_AT_ONCE = 128  # that callers ask for: the scores of a moment are those of ten thousands of items


@runtime_checkable
class Finder(Protocol):
    """Finds the best items that users have no event with."""

    def find(self, moments: pl.DataFrame, most: int, excluded: np.ndarray = NOTHING) -> np.ndarray:
        """Return the best items of each moment, best first and padded with `NO_ITEM`: int64, shape (moments, most).

        Items of the user's events before the moment are left out, and the excluded ones; each moment has events.
        """


class Source(Finder, Protocol):
    """A finder that also scores given items, of any row of the moments."""

    def score(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Catalogue:
    """The items in the order in which they come where their scores are equal."""

    sequences: Sequences
    pool: np.ndarray  # indices of all items, most popular first, see `candidates.CandidateSets`

    @cached_property
    def rank(self) -> np.ndarray:
        """Place of each item in the pool, shape (items,)."""
        rank = np.empty(len(self.pool), dtype=np.int32)
        rank[self.pool] = np.arange(len(self.pool), dtype=np.int32)
        return rank

    def hidden(self, moments: pl.DataFrame, excluded: np.ndarray) -> list[np.ndarray]:
        """Return the items that each moment may not get."""
        starts = self.sequences.starts[moments["user_index"].to_numpy()]
        runs = zip(starts, moments["history_end"].to_numpy(), strict=True)
        return [np.concatenate([self.sequences.item_index[start:end], excluded]) for start, end in runs]

    def first(self, order: np.ndarray, most: int, hidden: np.ndarray) -> np.ndarray:
        """Return the first `most` items of an order that are not hidden; fewer if the order ends."""
        items = order[: most + len(hidden)]
        return items[~np.isin(items, hidden)][:most]

    def best(self, items: np.ndarray, scores: np.ndarray, most: int, hidden: np.ndarray) -> np.ndarray:
        """Return the items with the highest scores that are not hidden, where all further items score 0."""
        is_scored = (scores != 0) & ~np.isin(items, hidden)
        items, scores = items[is_scored], scores[is_scored]
        scored = np.concatenate([items, hidden])
        if len(items) > most:
            near = scores >= np.partition(scores, -most)[-most]
            items, scores = items[near], scores[near]
        order = np.lexsort((self.rank[items], -scores))
        items, above = items[order], int((scores > 0).sum())
        if above >= most:
            return items[:most]
        between = self.first(self.pool, most - above, scored)
        return np.concatenate([items[:above], between, items[above:]])[:most]


@dataclass(frozen=True)
class PopularItems:
    """Finds popular items, which are ranked once per second that tells moments apart."""

    catalogue: Catalogue
    popularity: Popularity
    _ranked: dict[int, np.ndarray] = field(default_factory=dict)

    def find(self, moments: pl.DataFrame, most: int, excluded: np.ndarray = NOTHING) -> np.ndarray:
        hidden, seconds = self.catalogue.hidden(moments, excluded), moments["timestamp"].to_list()
        parts = zip(seconds, hidden, strict=True)
        return padded([self.catalogue.first(self._ranking(second), most, items) for second, items in parts], most)

    def score(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.popularity.score(moments.select("timestamp")[row].with_columns(item_index=item))

    def _ranking(self, second: int) -> np.ndarray:
        pool, second = self.catalogue.pool, min(second, self.popularity.after)
        ranking = self._ranked.get(second)
        if ranking is None:
            scores = self.popularity.score(pl.DataFrame({"item_index": pool}).with_columns(timestamp=pl.lit(second)))
            ranking = pool[np.argsort(-scores, kind="stable")]
            self._ranked.clear()
            self._ranked[second] = ranking
        return ranking


@dataclass(frozen=True)
class NearItems:
    """Finds items near those of a user's events, by a source whose scores of most items are 0."""

    catalogue: Catalogue
    scores: Callable[[pl.DataFrame], csr_array]  # of moments, shape (moments, items); called twice for one table

    def find(self, moments: pl.DataFrame, most: int, excluded: np.ndarray = NOTHING) -> np.ndarray:
        scores = self.scores(moments)
        parts = []
        for row, hidden in enumerate(self.catalogue.hidden(moments, excluded)):
            own = slice(*scores.indptr[row : row + 2])
            parts.append(self.catalogue.best(scores.indices[own], scores.data[own], most, hidden))
        return padded(parts, most)

    def score(self, moments: pl.DataFrame, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.asarray(self.scores(moments)[row, item]).ravel()


@dataclass(frozen=True)
class BestOfSources:
    """Finds items by a second stage, which orders the best items of several sources; others follow by popularity."""

    catalogue: Catalogue
    sources: Mapping[str, Source]
    reader: CandidateReader
    order: Callable[[pl.DataFrame], np.ndarray]  # scores of candidates by their features, see `features.Candidates`

    def find(self, moments: pl.DataFrame, most: int, excluded: np.ndarray = NOTHING) -> np.ndarray:
        found = np.stack([source.find(moments, BEST_PER_SOURCE, excluded) for source in self.sources.values()], axis=2)
        parts = [self._ranked(of_moment) for of_moment in found]
        items, ranks = (np.concatenate(each) for each in zip(*parts, strict=True))
        sizes = [len(of_moment) for of_moment, _ in parts]
        row = np.repeat(np.arange(moments.height), sizes)
        scores = np.stack([source.score(moments, row, items) for source in self.sources.values()], axis=1)
        best = np.maximum.reduceat(scores, np.cumsum([0, *sizes[:-1]]))
        pairs = moments[row].with_columns(item_index=pl.Series(items, dtype=pl.Int32))
        by_stage = self.order(self.reader.features(pairs, ranks, scores, scores - best[row]))
        chosen = []
        hidden_of = self.catalogue.hidden(moments, excluded)
        for hidden, own in zip(hidden_of, np.split(np.arange(len(row)), np.cumsum(sizes)[:-1]), strict=True):
            ordered = items[own][np.argsort(-by_stage[own], kind="stable")[:most]]
            others = self.catalogue.first(self.catalogue.pool, most - len(ordered), np.concatenate([ordered, hidden]))
            chosen.append(np.concatenate([ordered, others]))
        return padded(chosen, most)

    def _ranked(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the items among some found ones, (most, sources), in the pool's order, and their ranks by source."""
        items = np.unique(found[found != NO_ITEM])
        items = items[np.argsort(self.catalogue.rank[items])]
        place, ranks = np.argsort(items), np.full((len(items), found.shape[1]), BEST_PER_SOURCE + 1)
        rank, source = np.nonzero(found != NO_ITEM)
        of_item = place[np.searchsorted(items, found[rank, source], sorter=place)]
        ranks[of_item, source] = rank + 1
        return items, ranks


def padded(parts: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Return items of moments as one array, padded with `NO_ITEM`: int64, shape (moments, most)."""
    found = np.full((len(parts), most), NO_ITEM, dtype=np.int64)
    for row, items in enumerate(parts):
        found[row, : len(items)] = items
    return found
