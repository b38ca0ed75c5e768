"""The lens zoo: several lenses trained on the same split, seed by seed, and compared."""

from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import log_loss, roc_auc_score

from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.training import fit_lens, rows_of, score_rows

Records = list[dict[str, Any]]
SCORED_SPLITS = ("validation", "test")


class LensZooConfig(BaseModel):
    """Which lenses are compared, and how often each is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: tuple[int, ...] = Field(min_length=1, description="each lens is trained once a seed")
    lenses: dict[str, dict[str, Any] | None] = Field(
        description="by name, what differs from the `lens` parameters; null: dropped"
    )


def zoo_lens(lens: LensConfig, changes: dict[str, Any]) -> LensConfig:
    """The settings of one lens of the zoo: the project's own with some changed.

    Raises:
        pydantic.ValidationError: a change is no setting of a lens, or its value is out of range.
    """
    return LensConfig.model_validate(lens.model_dump() | changes)


def train_over_seeds(
    samples: pl.DataFrame,
    sequences: Sequences,
    item_embeddings: np.ndarray,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: LensConfig,
    seeds: tuple[int, ...],
) -> Records:
    """Train a lens once a seed and measure each on whole splits.

    Args:
        samples: the samples table, all splits.
        sequences: every user's events.
        item_embeddings: semantic vectors by item index, shape (items, d).
        items: canonical items, by item index.
        users: canonical users, by user index.
        config: settings of the lens; its seed is replaced.
        seeds: one training each.

    Returns:
        One record a seed: seed; AUC and log loss (nats a row) on validation and test; best_epoch; parameters (number
        of trained weights); seconds (training, validation after each epoch included) and rows_per_second (training
        rows over those seconds).
    """
    records = []
    for seed in seeds:
        lens, log = fit_lens(
            samples, sequences, item_embeddings, items, users, config.model_copy(update={"seed": seed})
        )
        rows = rows_of(lens, samples, sequences, item_embeddings)
        record: dict[str, float] = {"seed": seed}
        for split in SCORED_SPLITS:
            part = samples.filter(pl.col("split") == split)
            _, scores = score_rows(lens, rows, part["row"].to_numpy())
            record[f"{split}_auc"] = float(roc_auc_score(part["label"], scores))
            record[f"{split}_log_loss"] = float(log_loss(part["label"], scores))
        seconds = log["seconds"][-1]
        records.append(
            record
            | {
                "best_epoch": int(log["validation_auc"].arg_max() or 0) + 1,
                "parameters": sum(weight.numel() for weight in lens.parameters()),
                "seconds": seconds,
                "rows_per_second": log["rows"][-1] / seconds,
            }
        )
    return records


def compare_lenses(runs: dict[str, Records]) -> Records:
    """Mean and spread over the seeds of every lens, the highest validation AUC first.

    Args:
        runs: by lens, records as `train_over_seeds` returns them.

    Returns:
        One record a lens: lens, seeds (how many), parameters; of every measure its mean over the seeds, and of the AUCs
        and log losses also `…_spread`, their standard deviation (0 with a single seed).

    Examples:
        >>> measured = {"validation_log_loss": 0.6, "test_auc": 0.7, "test_log_loss": 0.6, "best_epoch": 3,
        ...     "parameters": 9, "seconds": 5.0, "rows_per_second": 100.0}
        >>> runs = {"din": [measured | {"seed": seed, "validation_auc": auc} for seed, auc in ((0, 0.7), (1, 0.8))]}
        >>> [record] = compare_lenses(runs)
        >>> record["lens"], record["seeds"], record["validation_auc"], round(record["validation_auc_spread"], 4)
        ('din', 2, 0.75, 0.0707)
    """
    records = []
    for name, seeds in runs.items():
        table = pl.DataFrame(seeds)
        record: dict[str, Any] = {"lens": name, "seeds": table.height, "parameters": table["parameters"][0]}
        for split in SCORED_SPLITS:
            for measure in (f"{split}_auc", f"{split}_log_loss"):
                record[measure] = table[measure].mean()
                record[f"{measure}_spread"] = table[measure].std() if table.height > 1 else 0.0
        record |= {measure: table[measure].mean() for measure in ("best_epoch", "seconds", "rows_per_second")}
        records.append(record)
    return sorted(records, key=lambda record: -record["validation_auc"])
