"""Metrics of each model on the test rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import log_loss

from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import AucBootstrap


def compute_metrics(paired: PairedScores, auc: AucBootstrap, confidence: float) -> list[dict[str, Any]]:
    """AUC with its interval, GAUC, log loss and accuracy of every model.

    The interval is cut at 0 and 1. A model that separates the classes perfectly has an estimated variance of zero, so
    an interval of zero width.

    Args:
        paired: scores of the models on the same rows.
        auc: their AUCs, see `bootstrap_auc`.
        confidence: level of the intervals, in (0, 1).

    Returns:
        Records of model, rows, positives, users, auc, auc_low, auc_high, confidence, gauc (see `grouped_auc`),
        log_loss (nats per row) and accuracy (share of the rows for which "score >= 0.5" is the label).
    """
    estimate = auc.estimate()
    low, high = (end.clip(0, 1) for end in estimate.interval(confidence))
    return [
        {
            "model": model,
            "rows": len(paired.labels),
            "positives": int(paired.labels.sum()),
            "users": auc.users,
            "auc": float(estimate.value[index]),
            "auc_low": float(low[index]),
            "auc_high": float(high[index]),
            "confidence": confidence,
            "gauc": grouped_auc(paired.users, paired.labels, scores),
            "log_loss": float(log_loss(paired.labels, scores, labels=[False, True])),
            "accuracy": float(np.mean((scores >= 0.5) == paired.labels)),
        }
        for index, (model, scores) in enumerate(zip(paired.models, paired.scores, strict=True))
    ]


def grouped_auc(
    users: npt.NDArray[np.integer], labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> float | None:
    """Mean of the users' own AUCs, weighted by their rows: GAUC of Zhu et al. (KDD 2018, arXiv 1706.06978).

    It measures the order of each user's items alone: knowing which users like much does not raise it, as it does AUC.

    Args:
        users: index of each row's user, shape (rows,).
        labels: True for a like, shape (rows,).
        scores: shape (rows,).

    Returns:
        The mean over the users with both likes and dislikes; None where there are none.

    Examples:
        >>> users, labels = np.array([1, 1, 2, 2, 2, 3]), np.array([True, False, True, False, False, True])
        >>> grouped_auc(users, labels, np.array([0.9, 0.1, 0.5, 0.5, 0.7, 0.2]))
        0.55
    """
    rank = pl.col("score").rank("average").over("user")
    likes, dislikes = pl.col("label").sum(), (~pl.col("label")).sum()
    outscored = pl.col("rank").filter("label").sum() - likes * (likes + 1) / 2
    of_users = (
        pl.DataFrame({"user": users, "label": labels, "score": scores})
        .with_columns(rank=rank)
        .group_by("user", maintain_order=True)
        .agg(rows=pl.len(), auc=outscored / (likes * dislikes), both=pl.col("label").n_unique() == 2)
        .filter("both")
    )
    return float(np.average(of_users["auc"], weights=of_users["rows"])) if of_users.height else None
