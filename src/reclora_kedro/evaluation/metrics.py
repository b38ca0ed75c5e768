"""Metrics of each model on the test rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import AucComparison, Gauc, ModelMetrics, Records
from reclora_kedro.evaluation.scores import PairedScores, align_scores
from reclora_kedro.evaluation.significance import AucBootstrap, bootstrap_auc, compare_models

LEAST_USERS = 20  # with both likes and dislikes; the GAUC of fewer users is noise


def evaluate_models(scores: pl.DataFrame, bootstrap: Bootstrap) -> tuple[list[ModelMetrics], list[AucComparison]]:
    """Return every model's metrics and every pair's AUC difference, from the same bootstrap draws."""
    paired = align_scores(scores)
    auc = bootstrap_auc(paired, bootstrap)
    return compute_metrics(paired, auc, bootstrap), compare_models(auc, bootstrap.confidence)


def compute_metrics(paired: PairedScores, auc: AucBootstrap, bootstrap: Bootstrap) -> list[ModelMetrics]:
    """Return AUC and GAUC with intervals clipped to [0, 1], log loss and accuracy of every model.

    Returns:
        Records of model, rows, positives, users, auc, auc_low, auc_high, confidence, the fields of `grouped_auc`,
        log_loss (nats per row) and accuracy (share of rows where `score >= 0.5` equals the label).
    """
    from sklearn.metrics import log_loss

    estimate = auc.estimate()
    low, high = (end.clip(0, 1) for end in estimate.interval(bootstrap.confidence))
    gaucs = grouped_auc(paired.users, paired.labels, paired.scores, bootstrap)
    return [
        {
            "model": model,
            "rows": len(paired.labels),
            "positives": int(paired.labels.sum()),
            "users": auc.users,
            "auc": float(estimate.value[index]),
            "auc_low": float(low[index]),
            "auc_high": float(high[index]),
            "confidence": bootstrap.confidence,
            **gaucs[index],
            "log_loss": float(log_loss(paired.labels, scores, labels=[False, True])),
            "accuracy": float(np.mean((scores >= 0.5) == paired.labels)),
        }
        for index, (model, scores) in enumerate(zip(paired.models, paired.scores, strict=True))
    ]


def with_split_auc(
    metrics: Sequence[ModelMetrics],
    samples: pl.DataFrame,
    lens_metrics: Records,
    tables: Mapping[str, pl.DataFrame],
) -> list[ModelMetrics]:
    """Add each model's AUC on the whole test split to its record, as split_auc: None if it scored a part alone.

    Args:
        tables: row and score of the rows that other models scored, by model.
    """
    from sklearn.metrics import roc_auc_score

    aucs = {record["model"]: record["auc"] for record in lens_metrics}
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
    values = training_log[column].drop_nulls().to_list()
    kept = values[-1:] if "kept_last" in training_log.columns else values
    return max(kept, default=None)


def grouped_auc(
    users: npt.NDArray[np.integer],
    labels: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    bootstrap: Bootstrap,
) -> list[Gauc]:
    """Return each model's GAUC: the mean AUC within users, weighted by rows (Zhu et al., KDD 2018, arXiv 1706.06978).

    Unlike AUC, it does not reward knowing which users like much. `users` are indices, `labels` are True for a like,
    both of shape (rows,); `scores` have shape (models, rows).

    Returns:
        One record per model: gauc, gauc_low, gauc_high and gauc_users (users with both likes and dislikes, over whom
        the mean is taken); below `LEAST_USERS` users, the others are None.
    """
    aucs = [_user_aucs(users, labels, scores_of_model) for scores_of_model in scores]
    if (gauc_users := aucs[0].height) < LEAST_USERS:
        return [{"gauc": None, "gauc_low": None, "gauc_high": None, "gauc_users": gauc_users} for _ in aucs]
    by_user = np.column_stack([model_aucs["auc"] for model_aucs in aucs])
    means = bootstrap.means(by_user, aucs[0]["rows"].to_numpy().astype(np.float64))
    low, high = (end.clip(0, 1) for end in means.interval(bootstrap.confidence))
    return [
        {"gauc": value, "gauc_low": below, "gauc_high": above, "gauc_users": gauc_users}
        for value, below, above in zip(means.value.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def _user_aucs(
    users: npt.NDArray[np.integer], labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> pl.DataFrame:
    """Return user, rows and auc of each user with both likes and dislikes."""
    rank = pl.col("score").rank("average").over("user")
    likes, dislikes = pl.col("label").sum(), (~pl.col("label")).sum()
    # the Mann-Whitney U statistic, from the ranks of the likes
    outscored = pl.col("rank").filter("label").sum() - likes * (likes + 1) / 2
    return (
        pl.DataFrame({"user": users, "label": labels, "score": scores})
        .with_columns(rank=rank)
        .group_by("user", maintain_order=True)
        .agg(rows=pl.len(), auc=outscored / (likes * dislikes), both=pl.col("label").n_unique() == 2)
        .filter("both")
    )
