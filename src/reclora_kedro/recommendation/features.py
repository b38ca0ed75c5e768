"""The best items of several sources at given moments, with features for a second stage."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.candidates.item_model import ItemModel
from reclora_kedro.candidates.moments import NO_ITEM, Moments
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.history.item_facts import ItemFacts

BEST_PER_SOURCE = 50  # best items of each source that are ordered
RANK, SCORE, GAP = "_rank", "_score", "_gap"


class Candidates(NamedTuple):
    """The best items of each source at given moments, by moment, and within one in the order of equals.

    Features are of each source the rank (negative logarithm of 1, 2, …, greater is better), the score, and the score
    minus the moment's best; and those of `ItemFacts`.
    """

    row: np.ndarray  # the moment of each candidate, shape (candidates,)
    item: np.ndarray  # its item index, shape (candidates,)
    features: pl.DataFrame  # one row per candidate


class CandidateReader:
    """Finds the 50 best items of each source, and computes their features."""

    def __init__(self, sources: Mapping[str, ItemModel], facts: ItemFacts) -> None:
        self.sources, self.facts = dict(sources), facts

    def read(self, moments: Moments) -> Candidates:
        """Return the candidates of moments; repeated calls with the same ones return the first result."""
        return moments.once((self, "candidates"), lambda: self._read(moments))

    def ranks(self, moments: Moments) -> dict[int, dict[str, int]]:
        """Return the ranks of a single moment's candidates, by item and source, among the source's best alone."""
        candidates = self.read(moments)
        ranks = candidates.features.select(
            ((-pl.col(source + RANK)).exp().round().cast(int)) for source in self.sources
        )
        return {
            item: {source: rank for source, rank in zip(self.sources, own, strict=True) if rank <= BEST_PER_SOURCE}
            for item, own in zip(candidates.item.tolist(), ranks.rows(), strict=True)
        }

    def _read(self, moments: Moments) -> Candidates:
        parts = [(rows.start, *self._of_block(block)) for rows, block in moments.blocks()]
        row, item, ranks, scores = (
            np.concatenate(each) for each in zip(*[(start + row, *rest) for start, row, *rest in parts], strict=True)
        )
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        best = np.repeat(np.maximum.reduceat(scores, starts), np.diff(starts, append=len(row)), axis=0)
        columns = dict[str, np.ndarray]()
        for kind, values in ((RANK, -np.log(ranks)), (SCORE, scores), (GAP, scores - best)):
            columns |= {source + kind: values[:, place] for place, source in enumerate(self.sources)}
        columns |= self.facts.features(moments.events, moments.pairs(row, item))
        return Candidates(row, item, pl.DataFrame(columns).cast(pl.Float32))

    def _of_block(self, moments: Moments) -> tuple[np.ndarray, ...]:
        """Return the row and item of each candidate, its ranks and its scores by each source, (candidates, sources)."""
        lists = [source.top(moments, BEST_PER_SOURCE).items for source in self.sources.values()]
        found = np.stack(lists, axis=2)
        row, rank, source = np.nonzero(found != NO_ITEM)
        place = moments.order.place[found[row, rank, source]].astype(np.int64)
        keys, candidate = np.unique(row * moments.items + place, return_inverse=True)
        rows, places = np.divmod(keys, moments.items)
        ranks = np.full((len(keys), len(lists)), BEST_PER_SOURCE + 1)
        ranks[candidate, source] = rank + 1
        items = moments.order.items[places]
        scores = [source.score(moments, rows, items) for source in self.sources.values()]
        return rows, items, ranks, np.stack(scores, axis=1)


def _read_rows(reader: CandidateReader, moments: Moments, rows: np.ndarray) -> Candidates:
    candidates = reader.read(moments[rows])
    return candidates._replace(row=rows[candidates.row])


class TaughtLists(NamedTuple):
    """Candidates of moments at which a user took some of them (`liked`), to train a second stage."""

    features: pl.DataFrame
    liked: np.ndarray
    moment: np.ndarray
    user: np.ndarray  # of each candidate's moment


def read_lists(
    reader: CandidateReader, moments: Moments, target: np.ndarray, engine: EngineConfig = LOCAL
) -> TaughtLists | None:
    """Return the candidates of moments whose liked item, `target`, is among them; None if there are no such moments."""
    parts = map_shards(partial(_read_rows, reader, moments), engine.shards(len(moments)), engine, "candidates")
    row, item, features = zip(*parts, strict=True)
    candidates = Candidates(np.concatenate(row), np.concatenate(item), pl.concat(features))
    liked = candidates.item == target[candidates.row]
    teaches = np.bincount(candidates.row, liked, minlength=len(moments))[candidates.row] > 0
    if not teaches.any():
        return None
    row = candidates.row[teaches]
    moment = np.unique(row, return_inverse=True)[1]
    user = moments.frame["user_index"].to_numpy()[row]
    return TaughtLists(candidates.features.filter(teaches), liked[teaches], moment, user)
