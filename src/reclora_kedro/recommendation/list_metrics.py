"""Metrics of lists of items, declared once: of what is in a list, and of whether it has the item that its user took.

Their equations are of a list L of items, with e(i) training events of item i and its vectors v(i) at unit length.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.evaluation.bootstrap import Floats
from reclora_kedro.evaluation.metric import RankingMetric, with_installed
from reclora_kedro.evaluation.metrics import ndcg
from reclora_kedro.history.fields import category_names, field_values
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors

HEAD_SHARE = 0.8  # of the training events, which the head of the catalogue holds
LISTS_AT_ONCE = 2**13  # whose vectors are summed together


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items that lists are of."""

    items: pl.DataFrame  # item_id, title and further columns
    events: npt.NDArray[np.integer]  # training events of each item, shape (items,)
    embeddings: np.ndarray | None = None  # vectors of texts, shape (items, d)

    @classmethod
    def from_log(cls, log: InteractionLog, is_training_event: npt.NDArray[np.bool_] | None = None) -> Self:
        """Return the items of a log, whose training events are as the log's splits say if they are not given."""
        chosen = log.training_events() if is_training_event is None else is_training_event
        events = np.bincount(log.sequences.item_index[chosen], minlength=log.items.height)
        return cls(log.items, events, log.item_embeddings)

    @cached_property
    def information(self) -> Floats:
        """-log2 of the smoothed share of the events (bits), shape (items,)."""
        counts = self.events + 1
        return -np.log2(counts / counts.sum())

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """Vectors of texts at unit length, shape (items, d); None if the log has none."""
        return None if self.embeddings is None else unit_vectors(self.embeddings).astype(np.float32)

    @cached_property
    def fields(self) -> csr_array | None:
        """Vectors of the values of category fields at unit length, shape (items, values); None without such fields.

        That of an item without a value is zero.

        Examples:
            >>> items = pl.DataFrame({"item_id": [7, 8], "genres": ["War", None]})
            >>> Catalogue(items, np.array([1, 1])).fields.toarray()
            array([[1.],
                   [0.]])
        """
        names = category_names(self.items)
        values = field_values(self.items, names) if names else pl.DataFrame()
        if values.is_empty():
            return None
        row, column = (
            values.select(column.cast(pl.Int64)).to_series().to_numpy()
            for column in (pl.col("row"), pl.struct("field", "value").rank("dense") - 1)
        )
        length = np.sqrt(np.bincount(row, minlength=self.items.height))[row]
        return csr_array((1 / length, (row, column)), shape=(self.items.height, column.max() + 1))

    @cached_property
    def is_tail(self) -> npt.NDArray[np.bool_]:
        """Whether each item is none of the most popular ones that together hold `HEAD_SHARE` of the events."""
        order = np.argsort(-self.events, kind="stable")
        before = np.cumsum(self.events[order]) - self.events[order]
        is_tail = np.empty(len(order), dtype=bool)
        is_tail[order] = before >= HEAD_SHARE * self.events.sum()
        return is_tail


@dataclass(frozen=True, eq=False)
class RankedLists:
    """The lists of one method, one for each row, of which metrics read the first k items."""

    rank: Floats  # of the row's item in its list, infinite where the list lacks it, shape (rows,)
    top_items: pl.Series  # item indices of each list, the best first
    k: int
    catalogue: Catalogue
    popular_rank: Floats | None = None  # of the row's item in the list of popular items, if there is such a list

    @classmethod
    def from_ranks(
        cls, ranks: pl.DataFrame, k: int, catalogue: Catalogue, popular_ranks: pl.DataFrame | None = None
    ) -> Self:
        """Return the lists of one model, whose ranks `item_ranks.rank_likes` returned."""
        popular = None if popular_ranks is None else ranks_in_lists(popular_ranks)
        return cls(ranks_in_lists(ranks), ranks["top_items"], k, catalogue, popular)

    @cached_property
    def items(self) -> csr_array:
        """Ones for the first k items of each list, shape (rows, items)."""
        first = self.top_items.list.head(self.k)
        item = first.explode(empty_as_null=False).to_numpy()
        starts = np.concatenate([[0], np.cumsum(first.list.len().to_numpy())])
        return csr_array((np.ones(len(item)), item, starts), shape=(len(first), len(self.catalogue.events)))

    def mean(self, values: npt.ArrayLike) -> Floats:
        """Return the mean of the items' values, shape (items,), over the first k items of each list."""
        return self.items @ np.asarray(values, dtype=np.float64) / self.items.sum(axis=1)

    def mean_distances(self, vectors: np.ndarray | csr_array | None) -> Floats:
        """Return the mean of 1 - cosine over the pairs of each list; NaN for a list of one item, or without vectors.

        Vectors are of all items, at unit length: (items, d).
        """
        sizes = self.items.sum(axis=1)
        if vectors is None:
            return np.full(len(sizes), np.nan)
        own = self.items @ np.asarray((vectors**2).sum(axis=1), dtype=np.float64)
        # the squared length of the sum of a list's vectors is the sum of all its cosines
        starts = range(0, self.items.shape[0], LISTS_AT_ONCE)
        blocks = (self.items[start : start + LISTS_AT_ONCE] @ vectors for start in starts)
        sums = np.concatenate([np.asarray((block**2).sum(axis=1)) for block in blocks])
        pairs = sizes * (sizes - 1)
        return 1 - np.divide(sums - own, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    def serendipity(self) -> Floats:
        """Return whether a list has the row's item and the list of the popular items does not; NaN without the latter.

        So do Ge, Delgado-Battenfeld and Jannach (Beyond accuracy, RecSys 2010) count useful and unexpected items, of
        which a list here has at most one.
        """
        if self.popular_rank is None:
            return np.full(len(self.rank), np.nan)
        return ((self.rank <= self.k) & (self.popular_rank > self.k)).astype(np.float64)


def ranks_in_lists(ranks: pl.DataFrame) -> Floats:
    """Return the rank of each row's item in its list, infinite where the list lacks it."""
    return ranks["rank"].cast(pl.Float64).fill_null(np.inf).to_numpy()


def gini(counts: npt.ArrayLike) -> float:
    """Return the Gini index of how often each item is recommended: 0 if all are alike often, near 1 for a single one.

    It is sum over r of (2 r - n - 1) c(r) / (n sum of c), with counts c in ascending order, r from 1 to n (Adomavicius
    and Kwon, Improving aggregate recommendation diversity using ranking-based techniques, TKDE 2012, as 1 - G).

    Examples:
        >>> gini([1, 1, 1]), round(gini([0, 0, 0, 8]), 3)
        (0.0, 0.75)
    """
    ascending = np.sort(np.asarray(counts, dtype=np.float64))
    n = len(ascending)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ascending / (n * ascending.sum()))


HIT_RATE = RankingMetric(
    name="hit_rate",
    heading="HR@{k}",
    per_row=lambda lists: lists.rank <= lists.k,
    note="How often the item of a like is among the first k.",
)
NDCG = RankingMetric(
    name="ndcg",
    heading="NDCG@{k}",
    per_row=lambda lists: ndcg(lists.rank, lists.k),
    note="1 / log2(1 + rank) if the item of a like is among the first k, otherwise 0.",
)
MRR = RankingMetric(
    name="mrr", heading="MRR", per_row=lambda lists: 1 / lists.rank, note="1 / rank among all items; 0 if not listed."
)
COVERAGE = RankingMetric(
    name="coverage",
    heading="coverage\n@{k}",
    format="{:.1%}".format,
    note="The share of the catalogue that is in at least one list. A segment with few likes has few lists: compare "
    "models within a segment, not segments with one another.",
)
NOVELTY = RankingMetric(
    name="novelty",
    heading="novelty\n@{k}",
    per_row=lambda lists: lists.mean(lists.catalogue.information),
    format="{:.1f}".format,
    bounds=(0, np.inf),
    note="The mean over a list's items of -log2 of the item's share of the training events, in bits (Zhou et al., "
    "Solving the apparent diversity-accuracy dilemma, PNAS 2010).",
)
GINI = RankingMetric(
    name="gini",
    heading="Gini",
    note="How unevenly the items are recommended: 0 if every item is recommended equally often, near 1 if a "
    "few items fill all lists. Compare models within a segment.",
)
DIVERSITY = RankingMetric(
    name="diversity",
    heading="diver-\nsity",
    per_row=lambda lists: lists.mean_distances(lists.catalogue.vectors),
    bounds=(0, 2),
    note="The mean of 1 - cosine over all pairs of a list's items, by the vectors of their texts (Ziegler et al., "
    "Improving recommendation lists through topic diversification, WWW 2005).",
)
FIELD_DIVERSITY = RankingMetric(
    name="field_diversity",
    heading="of\nfields",
    per_row=lambda lists: lists.mean_distances(lists.catalogue.fields),
    note="Diversity by the values of the items' fields, such as genres.",
)
POPULARITY = RankingMetric(
    name="popularity",
    heading="events\nper item",
    per_row=lambda lists: lists.mean(lists.catalogue.events),
    format="{:,.0f}".format,
    bounds=(0, np.inf),
    note="The mean over a list's items of the item's training events (Yin et al., Challenging the long tail "
    "recommendation, VLDB 2012). Popularity bias is many events per item and a small share of the tail.",
)
TAIL_SHARE = RankingMetric(
    name="tail_share",
    heading="tail",
    per_row=lambda lists: lists.mean(lists.catalogue.is_tail),
    format="{:.1%}".format,
    note="The share of a list's items outside of the head, the most popular items that hold 80% of the training events "
    "(Abdollahpouri, Burke and Mobasher, Managing popularity bias, FLAIRS 2019).",
)
SERENDIPITY = RankingMetric(
    name="serendipity",
    heading="seren-\ndipity",
    per_row=RankedLists.serendipity,
    note="How often the item of a like is among the first k, and not among the k that popularity recommends at that "
    "moment.",
)
OWN_METRICS = (HIT_RATE, NDCG, MRR, COVERAGE, NOVELTY)
BEYOND_ACCURACY = (GINI, DIVERSITY, FIELD_DIVERSITY, POPULARITY, TAIL_SHARE, SERENDIPITY)


def ranking_metrics() -> tuple[RankingMetric, ...]:
    """Return the metrics of lists that comparisons of methods have, those of installed packages included."""
    return with_installed(OWN_METRICS, RankingMetric)
