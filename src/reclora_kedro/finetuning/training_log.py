"""The log of an adapter's training, and the report on all of them."""

from typing import Any

import polars as pl

from reclora_kedro.evaluation.metrics import kept_validation

LOG_SCHEMA: dict[str, Any] = {  # before what the adapter's method and privacy measure, and seconds
    "rows": pl.Int64,
    "train_loss": pl.Float64,
    "learning_rate": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_auc": pl.Float64,
}


def training_report(**training_logs: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one record per training: model, rows seen, and validation_auc of the kept weights.

    Further columns of a log, such as seconds, weights and what privacy spent, follow by their last values.

    Examples:
        >>> log = pl.DataFrame({"rows": [4, 8], "validation_auc": [0.6, 0.7], "gate_entropy": [0.9, 0.8]})
        >>> training_report(reclora=log)
        [{'model': 'reclora', 'rows': 8, 'validation_auc': 0.7, 'gate_entropy': 0.8}]
    """
    return [
        {"model": model, "rows": log["rows"][-1], "validation_auc": kept_validation(log)}
        | {name: log[name][-1] for name in log.columns if name not in {*LOG_SCHEMA, "kept_last"}}
        for model, log in training_logs.items()
    ]
