"""Metrics of the lists of several methods with intervals over users, and comparisons of the methods."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from kedro_provenance.errors import NULL, Fault, MismatchError, Parameter
from reclora_kedro.errors import Table
from reclora_kedro.evaluation.bootstrap import Bootstrap, Floats, holm
from reclora_kedro.evaluation.metric import RankingMetric, columns_of
from reclora_kedro.evaluation.records import Record
from reclora_kedro.recommendation.list_metrics import OWN_METRICS, Catalogue, RankedLists, ranks_in_lists

CURVE_POINTS = 60


def compute_ranking_metrics(
    item_ranks: pl.DataFrame,
    baselines: Sequence[str],
    catalogue: Catalogue,
    cutoffs: tuple[int, ...],
    bootstrap: Bootstrap,
    among_first: tuple[int, ...] = (),
    metrics: Sequence[RankingMetric] = OWN_METRICS,
) -> list[Record]:
    """Metrics of every model at every cutoff, means over likes, with intervals over users.

    Besides, the NDCG of every model is compared with that of the best baseline at the same cutoff, on the same draws of
    users.

    Args:
        item_ranks: one line per row and model: row, user_index, model, rank, candidates and top_items, see
            `rank_likes`; the same rows for all models.
        among_first: further lengths, of which the hit rate alone is told.
        metrics: `OWN_METRICS`, and further ones.

    Returns:
        Records of model, k, users, rows, candidates (mean number per row) and confidence; each metric that is a mean
        over rows with its ends `…_low` and `…_high`; coverage; user_hit_rate and user_ndcg (means of the users' means);
        among_… (hit rates of the further lengths); baseline (the best one) and, None for the baseline itself,
        ndcg_difference (the model's less the baseline's), its ends, p_value (two-sided, of this pair alone) and
        p_adjusted (for all pairs, see `holm`).

    Raises:
        MismatchError: the models ranked different rows.
        ValueError: the rows are of fewer than two users.
    """
    _require_same_rows_of_users(item_ranks)
    records: list[Record] = []
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
            record = {"model": model, "k": k, "users": means.units, "rows": ranks.height}
            record |= {"candidates": ranks["candidates"].mean(), "confidence": bootstrap.confidence}
            estimates = np.stack([means.value, low, high], axis=1).ravel().tolist()
            record |= dict(zip(columns_of(means_over_rows), estimates, strict=True))
            record |= {f"user_{name}": users[name].mean() for name in ("hit_rate", "ndcg")}
            record |= {f"among_{n}": (lists.rank <= n).mean() for n in among_first}
            records.append(record | {"coverage": (lists.items.sum(axis=0) > 0).mean().item()})
    differences = compare_with_baseline(ndcg, weights, baselines, bootstrap)
    return [record | differences[record["model"], record["k"]] for record in records]


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
        users, rows = Parameter("ranking.users"), Parameter("ranking.rows")
        raise Fault(
            Table("item_ranks"),
            "has likes of one user alone",
            "at least 2 are expected, since intervals are made by drawing users",
            ("Raise ", users, " or ", rows, ", or write ", NULL, " to take all"),
        )
