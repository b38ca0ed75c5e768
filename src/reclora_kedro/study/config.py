"""Settings of a study."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import ConfigDict, Field, field_validator, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.evaluation.metric import columns_of
from reclora_kedro.evaluation.metrics import row_metrics
from reclora_kedro.evaluation.records import Comparison
from reclora_kedro.parameters import Count, Real, Seed
from reclora_kedro.recommendation.list_metrics import ranking_metrics

Settings = Mapping[str, Any]  # values by the dotted paths of parameters
Axes = dict[str, dict[str, dict[str, Any]]]  # by axis and setting, values by path; {}: none

# Columns of the table of results, besides the axes and metrics.
AUCS = ("auc", "auc_low", "auc_high", "auc_cold", "confidence", "gauc", "gauc_low", "gauc_high", "gauc_users")
Step = Literal["metrics", "lens", "ranking"]
OUTPUTS: Mapping[Step, tuple[str, ...]] = {
    "metrics": ("metrics", "comparisons", "attribution"),
    "lens": ("lens_metrics",),
    "ranking": ("ranking_metrics",),
}
"""Outputs that a cell is run for, by `GridConfig.until`."""


class Costs(TypedDict):
    """What a model of a cell took, and how well it validated; None where unknown."""

    weights: int | None  # trained ones
    validation_auc: float | None
    validation_hit_rate: float | None
    train_seconds: float | None
    score_seconds: float  # of the scoring node, loading and other models that it scores with included
    scored_rows: int  # with those that are scored again for permuted inputs
    ms_per_row: float


def metric_columns() -> list[str]:
    """Return the columns of metrics, those of installed packages included, in the table of results."""
    means = [metric for metric in row_metrics() if metric.per_row]
    return ["rows", "positives", "users", *AUCS, *columns_of(means), "k", *columns_of(ranking_metrics())]


class CellsConfig(Block):
    """Settings of cells."""

    title: str  # heading in the report
    until: Step = "metrics"  # last step of a cell: metrics of all models, the lens, or the ranking of whole catalogues
    seeds: list[Seed] | None = Field(None, min_length=1)  # of each cell; None for `study.seeds`
    settings: dict[str, Any] = Field(default_factory=dict)  # values of all cells by the dotted paths of parameters


class GridConfig(CellsConfig):
    """A grid of settings; each combination of one setting per axis is a cell."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # names of settings are often numbers

    axes: Axes = Field(min_length=1)

    @field_validator("axes")
    @classmethod
    def _no_axis_is_another_column(cls, axes: Axes) -> Axes:
        others = ("grid", "seed", "model", "auc_lost_without_prompt", "digest", "revision")
        if reserved := axes.keys() & {*metric_columns(), *others, *Costs.__annotations__, *Comparison.__annotations__}:
            raise ValueError(f"axis {min(reserved)!r} is also a column of the results table: rename the axis.")
        return axes


class NumberRange(Block):
    """Numbers from `low` to `high`, whole ones where both are whole; on a logarithmic scale with `log`."""

    low: int | Real
    high: int | Real
    log: bool = False

    @model_validator(mode="after")
    def _holds_numbers(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"low is {self.low} and high is {self.high}: high must be larger, and with log both above 0"
            )
        return self


Space = NumberRange | Annotated[list[bool | int | float | str | None], Field(min_length=2)]
"""Values that a search tries for a parameter."""


class SearchConfig(CellsConfig):
    """A search for the settings that validate best, see `reclora_kedro.study.search`; `until` is of the comparison."""

    maximise: str = Field(pattern=r"^.+\..+$")  # entry and column of a log, such as lens_training_log.validation_auc
    trials: Annotated[Count, Field(ge=2)]  # their number, the default settings among them
    search: dict[str, Space] = Field(min_length=1)  # by dotted path, the range of a number or a list of values


class StudyConfig(Block):
    """Grids and searches to run, their seeds, the models to report, and the number of worker processes."""

    grid: str | list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    models: Annotated[list[str], Field(min_length=1)] | None
    workers: Count
