"""Ranking metrics of the items that users took: hit rate, NDCG, reciprocal rank, novelty and coverage."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.bootstrap import Bootstrap, Floats, holm
from reclora_kedro.evaluation.records import RankingMetrics, Record

PER_ROW = ("hit_rate", "ndcg", "mrr", "novelty")
CURVE_POINTS = 60
HIGHEST = np.array([1, 1, 1, np.inf])  # of these


def compute_ranking_metrics(
    item_ranks: pl.DataFrame,
    baselines: Sequence[str],
    information: Floats,
    cutoffs: tuple[int, ...],
    bootstrap: Bootstrap,
    among_first: tuple[int, ...] = (),
) -> list[RankingMetrics]:
    """Metrics of every model at every cutoff, means over likes, with intervals over users, cut at 0 and 1.

    Besides, the NDCG of every model is compared with that of the best baseline at the same cutoff, on the same draws of
    users.

    Args:
        item_ranks: one line per row and model: row, user_index, model, rank, candidates and top_items, see
            `rank_likes`; the same rows for all models.
        information: of each item of the catalogue -log2 of its share of the events (bits), shape (items,).
        among_first: further lengths, of which the hit rate alone is told.

    Returns:
        Records of model, k, users, rows, candidates (mean number per row) and confidence; hit_rate and ndcg of the
        first k, mrr (mean reciprocal rank, 0 behind the end of a list; the same for every k) and novelty (mean
        information of the first k items, bits), each with its ends `…_low` and `…_high`; coverage (share of the
        catalogue in the first k of any row); user_hit_rate and user_ndcg (means of the users' means); among_… (hit
        rates of the further lengths); baseline (the best one) and, None for the baseline itself, ndcg_difference (the
        model's less the baseline's), its ends, p_value (two-sided, of this pair alone) and p_adjusted (for all pairs,
        see `holm`).

    Raises:
        MismatchError: the models ranked different rows.
        ValueError: the rows are of fewer than two users.
    """
    _require_same_rows_of_users(item_ranks)
    records: list[Record] = []
    ndcg: dict[tuple[str, int], Floats] = {}
    likes = item_ranks.filter(model=item_ranks["model"][0]).group_by("user_index").len().sort("user_index")
    weights = likes["len"].to_numpy().astype(np.float64)
    for (model,), ranks in item_ranks.group_by("model", maintain_order=True):
        for k in cutoffs:
            users = row_metrics(ranks, information, k).group_by("user_index").mean().sort("user_index").select(PER_ROW)
            ndcg[model, k] = users["ndcg"].to_numpy()
            means = bootstrap.means(users.to_numpy(), weights)
            low, high = (end.clip(0, HIGHEST) for end in means.interval(bootstrap.confidence))
            record = {"model": model, "k": k, "users": means.units, "rows": ranks.height}
            record |= {"candidates": ranks["candidates"].mean(), "confidence": bootstrap.confidence}
            for name, *values in zip(PER_ROW, means.value.tolist(), low.tolist(), high.tolist(), strict=True):
                record |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
            record |= {f"user_{name}": users[name].mean() for name in ("hit_rate", "ndcg")}
            record |= {f"among_{n}": (ranks_in_lists(ranks) <= n).mean() for n in among_first}
            recommended = ranks["top_items"].list.head(k).explode().n_unique()
            records.append(record | {"coverage": recommended / len(information)})
    differences = compare_with_baseline(ndcg, weights, baselines, bootstrap)
    return [cast(RankingMetrics, record | differences[record["model"], record["k"]]) for record in records]


def row_metrics(ranks: pl.DataFrame, information: Floats, k: int) -> pl.DataFrame:
    """Return the metrics of each row of one model: user_index, hit_rate, ndcg, mrr and novelty."""
    rank = ranks_in_lists(ranks)
    gains = {"hit_rate": (rank <= k).astype(np.float64), "ndcg": ndcg(rank, k), "mrr": 1 / rank}
    top_items = ranks.select(pl.int_range(pl.len()).alias("place"), pl.col("top_items").list.head(k)).explode(
        "top_items"
    )
    top_items = top_items.with_columns(novelty=information[top_items["top_items"].to_numpy()])
    return ranks.select(
        "user_index",
        *(pl.Series(name, gain) for name, gain in gains.items()),
        top_items.group_by("place", maintain_order=True).agg(pl.col("novelty").mean())["novelty"],
    )


def information(events: npt.NDArray[np.integer]) -> Floats:
    """Return -log2 of each item's smoothed share of the events (bits): shape (items,)."""
    counts = events + 1
    return -np.log2(counts / counts.sum())


def ranks_in_lists(ranks: pl.DataFrame) -> Floats:
    """Return the rank of each row's item in its list, infinite where the list lacks it."""
    return ranks["rank"].cast(pl.Float64).fill_null(np.inf).to_numpy()


def ndcg(rank: npt.NDArray[np.number], k: int) -> Floats:
    """Return the NDCG@k of single relevant items: 1 / log2(1 + rank) if the rank is at most k, else 0.

    Examples:
        >>> ndcg(np.array([1, 3, 11]), k=10)
        array([1. , 0.5, 0. ])
    """
    return (rank <= k) / np.log2(1.0 + rank)


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
) -> dict[tuple[str, int], Record]:
    """Paired differences of every model to the best baseline at the same cutoff, as `compute_ranking_metrics` has them.

    Args:
        user_means: by model and cutoff, the NDCG of each user, shape (users,); the same users for all of them, at least
            two.
        weights: likes of each user, shape (users,).
    """
    best = {
        k: max(baselines, key=lambda model: np.average(user_means[model, k], weights=weights)) for _, k in user_means
    }
    compared = {}
    for (model, k), means in user_means.items():
        record = dict.fromkeys(("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high", "p_value"))
        if model != best[k]:
            gain = bootstrap.means((means - user_means[best[k], k])[:, None], weights)
            values = (gain.value, *gain.interval(bootstrap.confidence), gain.p_value())
            record = dict(zip(record, (value.item() for value in values), strict=True))
        compared[model, k] = {"baseline": best[k], **record, "p_adjusted": None}
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
                "and they are not the same ones: they stem from different runs.",
                "item_ranks",
                "reranked_item_ranks",
            )
    if item_ranks["user_index"].n_unique() < 2:
        raise ValueError(
            "item_ranks: all ranked likes are of one user; expected at least 2 users, since intervals are made by "
            "drawing users. Raise ranking.users or ranking.rows, or write null to take all."
        )
