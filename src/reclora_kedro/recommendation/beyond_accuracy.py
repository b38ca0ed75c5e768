"""Metrics of recommended lists beyond accuracy: concentration, novelty, diversity, popularity bias and serendipity.

Their equations are of a list L of items, with e(i) training events of item i and its vectors v(i) at unit length.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.evaluation.bootstrap import Bootstrap, Floats
from reclora_kedro.evaluation.ranking_metrics import information, row_metrics
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE, HISTORY_EDGES, Segmentation, in_bands
from reclora_kedro.history.fields import category_names, field_values
from reclora_kedro.history.log import InteractionLog

ACCURACY = ("hit_rate", "ndcg")
HEAD_SHARE = 0.8  # of the training events, which the head of the catalogue holds
LISTS_AT_ONCE = 2**13  # whose vectors are summed together


class Catalogue(NamedTuple):
    """Properties of a catalogue's items.

    Attributes:
        events: training events of each item, shape (items,).
        information: -log2 of the smoothed share of these events (bits), shape (items,).
        vectors: vectors of texts at unit length, shape (items, d); None if the log has none.
        fields: vectors of the values of category fields at unit length, zero without a value, shape (items, values);
            None without such fields.
    """

    events: npt.NDArray[np.integer]
    information: Floats
    vectors: np.ndarray | None = None
    fields: csr_array | None = None

    @classmethod
    def from_log(cls, log: InteractionLog) -> Self:
        events = np.bincount(log.sequences.item_index[log.training_events()], minlength=log.items.height)
        vectors = None if log.item_embeddings is None else log.item_text_vectors()
        return cls(events, information(events), vectors, field_vectors(log.items))

    @property
    def is_tail(self) -> npt.NDArray[np.bool_]:
        """Whether each item is none of the most popular ones that together hold `HEAD_SHARE` of the events."""
        order = np.argsort(-self.events, kind="stable")
        before = np.cumsum(self.events[order]) - self.events[order]
        is_tail = np.empty(len(order), dtype=bool)
        is_tail[order] = before >= HEAD_SHARE * self.events.sum()
        return is_tail


def field_vectors(items: pl.DataFrame) -> csr_array | None:
    """Return a unit vector of each item's values of category fields, see `Catalogue`.

    Examples:
        >>> items = pl.DataFrame({"item_id": [7, 8], "genres": ["War", None]})
        >>> field_vectors(items).toarray()
        array([[1.],
               [0.]])
    """
    values = field_values(items, category_names(items)) if category_names(items) else pl.DataFrame()
    if values.is_empty():
        return None
    row, column = (
        values.select(column.cast(pl.Int64)).to_series().to_numpy()
        for column in (pl.col("row"), pl.struct("field", "value").rank("dense") - 1)
    )
    length = np.sqrt(np.bincount(row, minlength=items.height))[row]
    return csr_array((1 / length, (row, column)), shape=(items.height, column.max() + 1))


def compute_beyond_accuracy(
    item_ranks: pl.DataFrame, log: InteractionLog, cutoffs: Sequence[int], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Return the metrics of every model's lists at every cutoff, for all rows and for each segment of `segment_likes`.

    Args:
        item_ranks: see `rank_likes`; the popular items that serendipity compares with are those of the model
            `popularity`, without which it is undefined.

    Returns:
        Records of model, k, by and segment, rows, users, the means of hit_rate and ndcg (see `row_metrics`), with their
        ends `…_low` and `…_high` over users, and of the columns of `list_metrics` over rows, None if undefined;
        coverage (share of the catalogue in any list of the segment, |union of L| / items), gini (see `gini`) and
        serendipity: the share of rows whose item is in L and not in the list of the popular items, as Ge,
        Delgado-Battenfeld and Jannach (Beyond accuracy, RecSys 2010) count useful and unexpected items, of which a list
        here has at most one.
    """
    catalogue = Catalogue.from_log(log)
    popular, likes = item_ranks.filter(model="popularity"), item_ranks.filter(model=item_ranks["model"][0])
    lists, metrics = {}, {}
    for (model,), ranks in item_ranks.group_by("model", maintain_order=True):
        for k in cutoffs:
            lists[model, k] = membership(ranks["top_items"], k, log.items.height)
            accuracy = row_metrics(ranks, catalogue.information, k).select("user_index", *ACCURACY)
            if popular.height:
                unexpected = 1 - row_metrics(popular, catalogue.information, k)["hit_rate"]
            else:
                unexpected = pl.repeat(np.nan, accuracy.height, eager=True)
            rows = accuracy.with_columns(serendipity=accuracy["hit_rate"] * unexpected)
            metrics[model, k] = rows.hstack(list_metrics(lists[model, k], catalogue))
    records = []
    for by, names, places in segment_likes(likes, log):
        for place in np.unique(places):
            chosen = places == place
            parts = [rows.filter(chosen) for rows in metrics.values()]
            intervals = _accuracy_intervals(parts, bootstrap)
            for (model, k), own, ends in zip(metrics, parts, intervals, strict=True):
                record = {"model": model, "k": k, "by": by, "segment": names[place], "rows": own.height}
                record |= {"users": own["user_index"].n_unique()}
                record |= own.drop("user_index").select(pl.all().fill_nan(None).mean()).row(0, named=True) | ends
                counts = lists[model, k][chosen].sum(axis=0)
                records.append(record | {"coverage": (counts > 0).mean().item(), "gini": gini(counts)})
    return records


def segment_likes(item_ranks: pl.DataFrame, log: InteractionLog) -> Iterator[Segmentation]:
    """Segment one model's likes: all; by the number of the user's events before; and by the time of the last of these.

    A like of the same time as the user's event before it completes a basket; a later one is the next purchase. Without
    the former, there is no segmentation by time.
    """
    offsets = np.asarray(log.sequences.offsets)[item_ranks["user_index"]]
    end = item_ranks["history_end"].to_numpy()
    yield Segmentation("users", [ALL], np.zeros(len(end), dtype=int))
    yield in_bands("events of the user before the like", end - offsets, np.array(HISTORY_EDGES))
    last = np.asarray(log.sequences.timestamp)[np.maximum(end - 1, 0)]
    is_same = (end > offsets) & (last == item_ranks["timestamp"].to_numpy())
    if is_same.any():
        yield Segmentation(EVENT_BEFORE, ["of the same time", "earlier, or none"], (~is_same).astype(int))


def _accuracy_intervals(lists: Sequence[pl.DataFrame], bootstrap: Bootstrap) -> list[dict[str, float | None]]:
    """Return the ends of the intervals of `ACCURACY` over users, cut at 0 and 1, per list; None for one user."""
    names = [f"{name}_{end}" for end in ("low", "high") for name in ACCURACY]
    users = [rows.group_by("user_index").agg(pl.len(), pl.col(ACCURACY).mean()).sort("user_index") for rows in lists]
    if users[0].height < 2:
        return [dict.fromkeys(names)] * len(lists)
    values = np.concatenate([of.select(ACCURACY).to_numpy() for of in users], axis=1)
    means = bootstrap.means(values, users[0]["len"].to_numpy().astype(np.float64))
    low, high = (end.clip(0, 1).reshape(len(lists), -1) for end in means.interval(bootstrap.confidence))
    return [dict(zip(names, ends, strict=True)) for ends in np.concatenate([low, high], axis=1).tolist()]


def membership(lists: pl.Series, k: int, items: int) -> csr_array:
    """Return 1 for each item that is among the first k of a list, shape (lists, items)."""
    first = lists.list.head(k)
    item = first.explode(empty_as_null=False).to_numpy()
    starts = np.concatenate([[0], np.cumsum(first.list.len().to_numpy())])
    return csr_array((np.ones(len(item)), item, starts), shape=(len(lists), items))


def list_metrics(lists: csr_array, catalogue: Catalogue) -> pl.DataFrame:
    """Return one row per list L, see `membership`.

    Returns:
        Columns novelty (self-information, the mean over L of -log2 p(i), bits; Zhou et al., Solving the apparent
        diversity-accuracy dilemma, PNAS 2010), popularity (the mean over L of e(i); Yin et al., Challenging the long
        tail recommendation, VLDB 2012), tail_share (|L without the head| / |L|; Abdollahpouri, Burke and Mobasher,
        Managing popularity bias, FLAIRS 2019; the head are the most popular items with 80% of the events), diversity
        and field_diversity (the mean of 1 - v(i).v(j) over all pairs of L; Ziegler et al., Improving recommendation
        lists through topic diversification, WWW 2005), by the vectors of texts and of fields; NaN for lists of one
        item.
    """
    sizes = lists.sum(axis=1)
    of_items = {"novelty": catalogue.information, "popularity": catalogue.events, "tail_share": catalogue.is_tail}
    means = {name: lists @ values.astype(np.float64) / sizes for name, values in of_items.items()}
    vectors = {"diversity": catalogue.vectors, "field_diversity": catalogue.fields}
    return pl.DataFrame(
        means
        | {
            name: np.full(len(sizes), np.nan) if of_item is None else _mean_distances(lists, of_item)
            for name, of_item in vectors.items()
        }
    )


def _mean_distances(lists: csr_array, vectors: np.ndarray | csr_array) -> Floats:
    """Return the mean of 1 - cosine over the pairs of each list, from the squared length of the sum of its vectors."""
    sizes = lists.sum(axis=1)
    own = lists @ np.asarray((vectors**2).sum(axis=1), dtype=np.float64)
    sums = np.concatenate(
        [
            np.asarray(((lists[start : start + LISTS_AT_ONCE] @ vectors) ** 2).sum(axis=1))
            for start in range(0, lists.shape[0], LISTS_AT_ONCE)
        ]
    )
    pairs = sizes * (sizes - 1)
    return 1 - np.divide(sums - own, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


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
