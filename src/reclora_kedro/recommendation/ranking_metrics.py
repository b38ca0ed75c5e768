"""Metrics of the lists of several methods with intervals over users, and comparisons of the methods."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from kedro_provenance.errors import NULL, Fault, MismatchError, Parameter
from reclora_kedro.errors import Table
from reclora_kedro.evaluation.bootstrap import Bootstrap, Floats, holm
from reclora_kedro.evaluation.metric import RankingMetric, columns_of
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE, HISTORY_EDGES, Segmentation, in_bands
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.list_metrics import (
    BEYOND_ACCURACY,
    HIT_RATE,
    NDCG,
    NOVELTY,
    OWN_METRICS,
    Catalogue,
    RankedLists,
    gini,
    ranks_in_lists,
)

Number = float | None  # a figure; None where it is undefined, as a difference from itself or an interval over one user
ACCURACY = ("hit_rate", "ndcg")
OF_LISTS = (HIT_RATE, NDCG, NOVELTY, *BEYOND_ACCURACY)
CURVE_POINTS = 60


class Accuracy(TypedDict):
    """Hit rate and NDCG of the lists of a model, cut at k, with the ends of their intervals over users."""

    model: str
    k: int
    users: int
    rows: int
    hit_rate: float
    hit_rate_low: Number
    hit_rate_high: Number
    ndcg: float
    ndcg_low: Number
    ndcg_high: Number
    coverage: float  # share of the catalogue in any list


class Difference(TypedDict):
    """The NDCG of a model less that of the best baseline at the same cutoff, which has none itself."""

    baseline: str
    ndcg_difference: Number
    ndcg_difference_low: Number
    ndcg_difference_high: Number
    p_value: Number  # two-sided, of this pair alone
    p_adjusted: Number  # for all pairs, see `holm`


class RankingRow(Accuracy, Difference):
    """Metrics of a model at a cutoff; those of further metrics and their ends are in columns of their names.

    So are ``among_…``, the hit rates of further lengths.
    """

    candidates: float  # mean number per row
    confidence: float  # of intervals
    user_hit_rate: float  # mean of the users' means, as is the next one
    user_ndcg: float


class BeyondAccuracyRow(Accuracy):
    """Metrics of a model's lists at a cutoff, for the rows of a segment.

    Those of `BEYOND_ACCURACY` are in columns of their names, None if undefined.
    """

    by: str
    segment: str
    novelty: Number
    gini: float  # see `gini`


def compute_ranking_metrics(
    item_ranks: pl.DataFrame,
    baselines: Sequence[str],
    catalogue: Catalogue,
    cutoffs: tuple[int, ...],
    bootstrap: Bootstrap,
    among_first: tuple[int, ...] = (),
    metrics: Sequence[RankingMetric] = OWN_METRICS,
) -> list[RankingRow]:
    """Metrics of every model at every cutoff, means over likes, with intervals over users.

    Besides, the NDCG of every model is compared with that of the best baseline at the same cutoff, on the same draws of
    users. See `rank_likes` for `item_ranks`, of the same rows for all models (else MismatchError is raised, and
    ValueError for rows of fewer than two users). Of the further lengths `among_first`, the hit rate alone is told.
    """
    _require_same_rows_of_users(item_ranks)
    records = list[dict[str, Any]]()
    ndcg: dict[tuple[str, int], Floats] = {}
    likes = item_ranks.filter(model=item_ranks["model"][0]).group_by("user_index").len().sort("user_index")
    weights = likes["len"].to_numpy().astype(np.float64)
    means_over_rows = [metric for metric in metrics if metric.per_row]
    bounds = np.array([metric.bounds for metric in means_over_rows]).T
    for (model,), ranks in item_ranks.group_by("model", maintain_order=True):
        for k in cutoffs:
            lists = RankedLists.from_ranks(ranks, k, catalogue)
            users = user_means(ranks["user_index"], lists, means_over_rows)
            ndcg[model, k] = users["ndcg"].to_numpy()
            means = bootstrap.means(users.drop("user_index").to_numpy(), weights)
            low, high = (end.clip(*bounds) for end in means.interval(bootstrap.confidence))
            record: dict[str, Any] = {"model": model, "k": k, "users": means.units, "rows": ranks.height}
            record |= {"candidates": ranks["candidates"].mean(), "confidence": bootstrap.confidence}
            estimates = np.stack([means.value, low, high], axis=1).ravel().tolist()
            record |= dict(zip(columns_of(means_over_rows), estimates, strict=True))
            record |= {f"user_{name}": users[name].mean() for name in ("hit_rate", "ndcg")}
            record |= {f"among_{n}": (lists.rank <= n).mean() for n in among_first}
            records.append(record | {"coverage": (lists.items.sum(axis=0) > 0).mean().item()})
    differences = compare_with_baseline(ndcg, weights, baselines, bootstrap)
    return [cast(RankingRow, record | differences[record["model"], record["k"]]) for record in records]


def user_means(user_index: pl.Series, lists: RankedLists, metrics: Sequence[RankingMetric]) -> pl.DataFrame:
    """Return the means of metrics over the rows of each user: user_index, ascending, and a column per metric."""
    values = {metric.name: metric.values(len(user_index), lists) for metric in metrics}
    return pl.DataFrame({"user_index": user_index, **values}).group_by("user_index").mean().sort("user_index")


def hit_rate_curves(item_ranks: pl.DataFrame) -> dict[str, tuple[npt.NDArray[np.int64], Floats]]:
    """Return the share of likes among the first n items by model: lengths n, at log-even steps, and shares."""
    longest = item_ranks["top_items"].list.len().max()
    assert isinstance(longest, int)  # of a list of integers
    lengths = np.unique(np.geomspace(1, max(longest, 1), CURVE_POINTS).round().astype(np.int64))
    curves = {}
    for (model,), of_model in item_ranks.group_by("model", maintain_order=True):
        rank = ranks_in_lists(of_model)
        curves[str(model)] = lengths, np.array([(rank <= n).mean() for n in lengths])
    return curves


def compare_with_baseline(
    user_means: dict[tuple[str, int], Floats], weights: Floats, baselines: Sequence[str], bootstrap: Bootstrap
) -> dict[tuple[str, int], Difference]:
    """Paired differences of every model to the best baseline at the same cutoff.

    The NDCG of each user is by model and cutoff; weights are the users' numbers of likes, all of shape (users,).
    """
    ndcg = {key: np.average(means, weights=weights) for key, means in user_means.items()}
    best = {k: max(baselines, key=lambda model: ndcg[model, k]) for _, k in user_means}
    compared = dict[tuple[str, int], Difference]()
    columns = ("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high", "p_value")
    for (model, k), means in user_means.items():
        values: list[Number] = [None] * len(columns)
        if model != best[k]:
            gain = bootstrap.means((means - user_means[best[k], k])[:, None], weights)
            values = [each.item() for each in (gain.value, *gain.interval(bootstrap.confidence), gain.p_value())]
        row = {"baseline": best[k], **dict(zip(columns, values, strict=True)), "p_adjusted": None}
        compared[model, k] = cast(Difference, row)
    pairs = [record for record in compared.values() if record["p_value"] is not None]
    for record, p_adjusted in zip(pairs, holm(np.array([record["p_value"] for record in pairs])), strict=True):
        record["p_adjusted"] = float(p_adjusted)
    return compared


def _require_same_rows_of_users(item_ranks: pl.DataFrame) -> None:
    first, *others = item_ranks.partition_by("model", maintain_order=True)
    for ranks in others:
        if not ranks["row"].equals(first["row"]):
            raise MismatchError(
                f"item_ranks: {ranks['model'][0]} ranked {ranks.height} rows and {first['model'][0]} {first.height}, "
                "which are not the same rows: they stem from different runs.",
                "item_ranks",
                "reranked_item_ranks",
            )
    if item_ranks["user_index"].n_unique() < 2:
        raise Fault(
            Table("item_ranks"),
            "has likes of only one user",
            "at least 2 are needed for the bootstrap over users",
            ("Raise ", Parameter("ranking.rows"), ", or write ", NULL, " to take all"),
        )


def compute_beyond_accuracy(
    item_ranks: pl.DataFrame, log: InteractionLog, cutoffs: Sequence[int], bootstrap: Bootstrap
) -> list[BeyondAccuracyRow]:
    """Return the metrics of every model's lists at every cutoff, for all rows and for each segment of `segment_likes`.

    The popular items that serendipity compares with are those of the model `popularity`, without which it is undefined.
    """
    catalogue = Catalogue.from_log(log)
    popular, likes = item_ranks.filter(model="popularity"), item_ranks.filter(model=item_ranks["model"][0])
    lists, values = {}, {}
    for (model,), ranks in item_ranks.group_by("model", maintain_order=True):
        for k in cutoffs:
            own = lists[model, k] = RankedLists.from_ranks(ranks, k, catalogue, popular if popular.height else None)
            means = {metric.name: np.asarray(per_row(own), float) for metric in OF_LISTS if (per_row := metric.per_row)}
            values[model, k] = pl.DataFrame({"user_index": ranks["user_index"], **means})
    records = list[BeyondAccuracyRow]()
    for by, names, places in segment_likes(likes, log):
        for place in np.unique(places):
            chosen = places == place
            parts = [rows.filter(chosen) for rows in values.values()]
            intervals = _accuracy_intervals(parts, bootstrap)
            for (model, k), part, ends in zip(values, parts, intervals, strict=True):
                record: dict[str, Any] = {"model": model, "k": k, "by": by, "segment": names[place]}
                record |= {"rows": part.height, "users": part["user_index"].n_unique()}
                record |= part.drop("user_index").select(pl.all().fill_nan(None).mean()).row(0, named=True) | ends
                counts = lists[model, k].items[chosen].sum(axis=0)
                record |= {"coverage": (counts > 0).mean().item(), "gini": gini(counts)}
                records.append(cast(BeyondAccuracyRow, record))
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
