"""Metrics of each model on the test rows."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap, Floats
from reclora_kedro.evaluation.metric import RowMetric, columns_of, with_installed
from reclora_kedro.evaluation.records import Comparison, ModelMetrics
from reclora_kedro.evaluation.scores import PairedScores, align_scores
from reclora_kedro.evaluation.significance import AucBootstrap, bootstrap_auc, compare_models

LEAST_USERS = 20  # with both likes and dislikes; the GAUC of fewer users is noise


def log_losses(labels: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Return the log loss of each row (nats), at most that of the least probability that scores of this type have.

    Examples:
        >>> log_losses(np.array([True, False]), np.array([0.5, 0.0])).round(3)
        array([0.693, 0.   ])
    """
    from scipy.special import xlogy

    given, least = np.where(labels, scores, 1 - scores), np.finfo(scores.dtype).eps
    return -xlogy(1.0, given.clip(least, 1 - least))


def ndcg(rank: npt.NDArray[np.number], k: int) -> Floats:
    """Return the NDCG@k of single relevant items: 1 / log2(1 + rank) if the rank is at most k, else 0.

    Examples:
        >>> ndcg(np.array([1, 3, 11]), k=10)
        array([1. , 0.5, 0. ])
    """
    return (rank <= k) / np.log2(1.0 + rank)


AUC = RowMetric(
    name="auc",
    heading="AUC",
    note="The chance that a random like is scored above a random dislike: 0.5 is guessing, 1 is perfect. It measures "
    "ranking only, so a model may rank well with scores that are all too high.",
)
GAUC = RowMetric(
    name="gauc",
    heading="GAUC",
    note="The AUC of each user's own rows, averaged over the users with both likes and dislikes, weighted by their "
    "rows. It only measures the order within each user; AUC also rewards knowing which users like much. A dash means "
    f"fewer than {LEAST_USERS} such users, too few for an estimate.",
)
LOG_LOSS = RowMetric(
    name="log_loss",
    heading="log\nloss",
    per_row=log_losses,
    bounds=(0, np.inf),
    lower_is_better=True,
    note="Mean negative logarithm of the probability given to what happened (nats). Lower is better, and confident "
    "mistakes cost most. Always predicting one half gives 0.693.",
)
ACCURACY = RowMetric(
    name="accuracy",
    heading="accuracy\nat 0.5",
    per_row=lambda labels, scores: (scores >= 0.5) == labels,
    note="Share of rows whose score is on the correct side of 0.5.",
)


def row_metrics() -> tuple[RowMetric, ...]:
    """Return all metrics of predictions, those of installed packages included."""
    return with_installed((AUC, GAUC, LOG_LOSS, ACCURACY), RowMetric)


def row_means(labels: npt.NDArray[np.bool_], scores: Floats) -> dict[str, float]:
    """Return the metrics that are means over rows, by name, of a model's scores, shape (rows,)."""
    means = (metric for metric in row_metrics() if metric.per_row)
    return {metric.name: float(metric.values(len(labels), labels, scores).mean()) for metric in means}


def evaluate_models(scores: pl.DataFrame, bootstrap: Bootstrap) -> tuple[list[ModelMetrics], list[Comparison]]:
    """Return every model's metrics and every pair's AUC difference, from the same bootstrap draws."""
    paired = align_scores(scores)
    auc = bootstrap_auc(paired, bootstrap)
    return compute_metrics(paired, auc, bootstrap), compare_models(auc, bootstrap.confidence)


def compute_metrics(paired: PairedScores, auc: AucBootstrap, bootstrap: Bootstrap) -> list[ModelMetrics]:
    """Return the `row_metrics` of every model, with intervals over users."""
    aucs = auc.estimate().records("auc", bootstrap.confidence)
    gaucs = grouped_auc(paired.users, paired.labels, paired.scores, bootstrap)
    counts = {"rows": len(paired.labels), "positives": int(paired.labels.sum()), "users": auc.users}
    of_models = zip(paired.models, aucs, gaucs, _means_over_rows(paired, bootstrap), strict=True)
    records = [
        {"model": model, **counts, **own_auc, "confidence": bootstrap.confidence, **gauc, **means}
        for model, own_auc, gauc, means in of_models
    ]
    return cast(list[ModelMetrics], records)  # with the metrics of installed packages


def _means_over_rows(paired: PairedScores, bootstrap: Bootstrap) -> list[dict[str, float]]:
    """Return the means over rows of each model, with their intervals over users."""
    metrics = [metric for metric in row_metrics() if metric.per_row]
    rows, users = len(paired.labels), np.unique(paired.users, return_inverse=True)[1]
    counts = np.bincount(users)
    values = [metric.values(rows, paired.labels, scores) for scores in paired.scores for metric in metrics]
    by_user = np.column_stack([np.bincount(users, each) / counts for each in values])
    ends = bootstrap.means(by_user, counts.astype(np.float64)).interval(bootstrap.confidence)
    bounds = np.tile([metric.bounds for metric in metrics], (len(paired.scores), 1)).T
    low, high = (end.clip(*bounds) for end in ends)
    estimates = np.stack([[each.mean() for each in values], low, high], axis=1).reshape(len(paired.scores), -1)
    return [dict(zip(columns_of(metrics), own, strict=True)) for own in estimates.tolist()]


def with_split_auc(
    metrics: Sequence[ModelMetrics],
    samples: pl.DataFrame,
    lens_metrics: Sequence[ModelMetrics],
    tables: Mapping[str, pl.DataFrame],
) -> list[ModelMetrics]:
    """Add each model's AUC on the whole test split, from the tables that have all of its scores."""
    from sklearn.metrics import roc_auc_score

    aucs: dict[str, float | None] = {record["model"]: record["auc"] for record in lens_metrics}
    for model, table in tables.items():
        scored = samples.join(table, on="row")
        if scored.height == samples.height:
            aucs[model] = float(roc_auc_score(scored["label"], scored["score"]))
    return [record | {"split_auc": aucs.get(record["model"]), "split_rows": samples.height} for record in metrics]


def with_constant(metrics: Sequence[ModelMetrics], share: float) -> list[ModelMetrics]:
    """Add what a constant, the share of likes in training, would have on the same rows: its log loss and accuracy.

    Its AUC is 0.5. A model with a greater log loss is worse calibrated than one that knows nothing of the row.

    Examples:
        >>> [record] = with_constant([{"rows": 4, "positives": 3}], 0.5)
        >>> round(record["constant_log_loss"], 3), record["constant_accuracy"]
        (0.693, 0.75)
    """
    rows, likes = metrics[0]["rows"], metrics[0]["positives"]
    share = min(max(share, 1e-6), 1 - 1e-6)
    lost = -(likes * np.log(share) + (rows - likes) * np.log1p(-share)) / rows
    right = likes if share >= 0.5 else rows - likes
    return [record | {"constant_log_loss": float(lost), "constant_accuracy": right / rows} for record in metrics]


def kept_validation(training_log: pl.DataFrame, column: str = "validation_auc") -> float | None:
    """Return a validation metric of the weights that a training kept; None where nothing was validated.

    These are the best weights, or the last where the log has a column `kept_last`.

    Examples:
        >>> log = pl.DataFrame({"validation_auc": [0.7, 0.6, None]})
        >>> kept_validation(log), kept_validation(log.with_columns(kept_last=True))
        (0.7, 0.6)
    """
    values = training_log[column].drop_nulls().to_list() if column in training_log.columns else []
    kept = values[-1:] if "kept_last" in training_log.columns else values
    return max(kept, default=None)


def grouped_auc(
    users: npt.NDArray[np.integer],
    labels: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    bootstrap: Bootstrap,
) -> list[dict[str, float | None]]:
    """Return each model's GAUC: the mean AUC within users, weighted by rows (Zhu et al., KDD 2018, arXiv 1706.06978).

    Unlike AUC, it does not reward knowing which users like much. `users` are indices, `labels` are True for a like,
    both of shape (rows,); `scores` have shape (models, rows). The fields are those of `ModelMetrics` for it.
    """
    by_user, rows = user_aucs(users, labels, scores)
    if (gauc_users := len(rows)) < LEAST_USERS:
        return [{"gauc": None, "gauc_low": None, "gauc_high": None, "gauc_users": gauc_users} for _ in scores]
    means = bootstrap.means(by_user, rows)
    return [{**gauc, "gauc_users": gauc_users} for gauc in means.records("gauc", bootstrap.confidence)]


def user_aucs(
    users: npt.NDArray[np.integer], labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """Return AUCs within the users with both likes and dislikes, shape (users, models), and their rows, (users,)."""
    models = [f"model_{place}" for place in range(len(scores))]
    ranks, likes, dislikes = pl.col(models), pl.col("label").sum(), (~pl.col("label")).sum()
    # the Mann-Whitney U statistic, from the ranks of the likes
    outscored = ranks.filter(pl.col("label")).sum() - likes * (likes + 1) / 2
    table = pl.DataFrame({"user": users, "label": labels, **dict(zip(models, scores, strict=True))})
    by_user = table.with_columns(ranks.rank("average").over("user")).group_by("user", maintain_order=True)
    both = pl.col("label").n_unique() == 2
    aucs = by_user.agg(outscored / (likes * dislikes), rows=pl.len(), both=both).filter("both")
    return aucs[models].to_numpy(), aucs["rows"].to_numpy().astype(np.float64)
