"""Metrics of each model on the test rows."""

from typing import Any

import numpy as np
from sklearn.metrics import log_loss

from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.significance import delong_estimate, placements


def compute_metrics(paired: PairedScores, confidence: float) -> list[dict[str, Any]]:
    """AUC with its DeLong interval, log loss and accuracy of every model.

    The interval is DeLong's own: symmetric on the AUC scale, cut at 0 and 1. A model that separates the
    classes perfectly has an estimated variance of zero, so an interval of zero width.

    Returns:
        Records of model, rows, positives, auc, auc_low, auc_high, log_loss (nats per row) and accuracy (share of
        the rows for which "score >= 0.5" is the label).

    Examples:
        >>> scores = np.array([[0.9, 0.4, 0.6, 0.1]])
        >>> paired = PairedScores(("lens",), np.array([True, True, False, False]), scores)
        >>> [record] = compute_metrics(paired, confidence=0.95)
        >>> record["auc"], record["accuracy"], round(record["log_loss"], 3)
        (0.75, 0.5, 0.511)
    """
    auc = delong_estimate(placements(paired.labels, paired.scores))
    low, high = (end.clip(0, 1) for end in auc.interval(confidence))
    return [
        {
            "model": model,
            "rows": len(paired.labels),
            "positives": int(paired.labels.sum()),
            "auc": float(auc.value[index]),
            "auc_low": float(low[index]),
            "auc_high": float(high[index]),
            "log_loss": float(log_loss(paired.labels, scores, labels=[False, True])),
            "accuracy": float(np.mean((scores >= 0.5) == paired.labels)),
        }
        for index, (model, scores) in enumerate(zip(paired.models, paired.scores, strict=True))
    ]
