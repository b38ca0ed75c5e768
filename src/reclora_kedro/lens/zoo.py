"""The lens zoo: several lenses trained on the same split, once per seed, and compared."""

from typing import Any

import polars as pl
from pydantic import Field
from sklearn.metrics import log_loss, roc_auc_score

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.parameters import Block, Seed

Records = list[dict[str, Any]]
SCORED_SPLITS = ("validation", "test")


class LensZooConfig(Block):
    """Which lenses are compared, and how often each is trained."""

    seeds: tuple[Seed, ...] = Field(min_length=1, description="each lens is trained once per seed")
    lenses: dict[str, dict[str, Any] | None] = Field(
        description="by name, what differs from the `lens` parameters; null: dropped"
    )


def zoo_lens(lens: LensConfig, changes: dict[str, Any]) -> LensConfig:
    """The settings of one lens of the zoo: the project's own with some changed.

    Raises:
        pydantic.ValidationError: a change is no setting of a lens, or its value is out of range.
        ValueError: it is to learn from other rows than all of the training split.
    """
    config = LensConfig.model_validate(lens.model_dump() | changes)
    if config.training_rows != "all":
        raise ValueError(
            f"lens.training_rows is {config.training_rows!r}, but the lens zoo compares lenses of all training rows: "
            "set it to all."
        )
    return config


def train_over_seeds(log: InteractionLog, config: LensConfig, seeds: tuple[Seed, ...]) -> Records:
    """Train a lens once per seed and measure each on whole splits.

    Returns:
        One record per seed: seed; AUC and log loss (nats per row) on validation and test; best_epoch; parameters
        (number of trained weights); seconds (training, validation after each epoch included) and rows_per_second
        (training rows over those seconds).
    """
    records = []
    for seed in seeds:
        lens, training_log = fit_lens(log, config.model_copy(update={"seed": seed}))
        record: dict[str, float] = {"seed": seed}
        for split in SCORED_SPLITS:
            rows = log.rows_in(split)
            labels, scores = log.samples["label"].to_numpy()[rows], lens_scores(lens_states(lens, log, rows))
            record[f"{split}_auc"] = float(roc_auc_score(labels, scores))
            record[f"{split}_log_loss"] = float(log_loss(labels, scores))
        seconds = training_log["seconds"][-1]
        records.append(
            record
            | {
                "best_epoch": int(training_log["validation_auc"].arg_max() or 0) + 1,
                "parameters": sum(weight.numel() for weight in lens.parameters()),
                "seconds": seconds,
                "rows_per_second": training_log["rows"][-1] / seconds,
            }
        )
    return records


def compare_lenses(runs: dict[str, Records]) -> Records:
    """Mean and spread over the seeds of every lens, the highest validation AUC first.

    Returns:
        One record per lens: lens, seeds (how many), parameters; of every measure its mean over the seeds, and of the
        AUCs and log losses also `…_spread`, their standard deviation (0 with a single seed).

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
