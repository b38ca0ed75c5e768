"""Settings of a study."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, Seed

Settings = Mapping[str, Any]  # values by the dotted paths of parameters

# Columns of the table of results, besides the axes.
AUCS = ("auc", "auc_low", "auc_high", "auc_cold", "confidence", "gauc", "gauc_low", "gauc_high", "gauc_users")
METRICS = ("rows", "positives", "users", *AUCS, "log_loss", "accuracy")
COSTS = ("weights", "validation_auc", "train_seconds", "score_seconds", "scored_rows", "ms_per_row")
COLUMNS = ("grid", "seed", "model", *METRICS, "auc_lost_without_prompt", *COSTS, "digest", "revision")
OUTPUTS = {"metrics": ("metrics", "comparisons", "attribution"), "lens": ("lens_metrics",)}
"""Outputs that a cell is run for, by `GridConfig.until`."""
PAIR_COLUMNS = ("model_a", "model_b", "auc_difference", "low", "high", "p_value", "p_adjusted")


class GridConfig(Block):
    """A grid of settings; each combination of one setting per axis is a cell.

    Attributes:
        until: last step of a cell: the metrics of all models, or the lens.
        settings: values of all cells by the dotted paths of parameters.
        axes: by axis and setting, values by path; {} changes nothing.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)  # names of settings are often numbers

    title: str
    until: Literal["metrics", "lens"] = "metrics"
    seeds: list[Seed] | None = Field(None, min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, dict[str, dict[str, Any]]] = Field(min_length=1)

    @field_validator("axes")
    @classmethod
    def _no_axis_is_another_column(cls, axes: dict[str, Any]) -> dict[str, Any]:
        if taken := axes.keys() & {*COLUMNS, *PAIR_COLUMNS}:
            raise ValueError(f"axis {min(taken)!r} has the name of a column of the results table: rename the axis.")
        return axes


class StudyConfig(Block):
    """Grids to run, their seeds, the models to report, and the number of worker processes."""

    grid: str | list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    models: Annotated[list[str], Field(min_length=1)] | None
    workers: Count
