"""Metrics, each declared once: what computes, tabulates and explains them goes over the declared ones.

A metric of one's own is an entry point in the group ``reclora_kedro.metrics``, see docs/guides/extend.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.bootstrap import Floats
from reclora_kedro.extensions import entry_point_objects

METRICS_GROUP = "reclora_kedro.metrics"  # no module has this name, see `extensions.HOOKS_GROUP`
ENDS = ("", "_low", "_high")  # of the columns of a metric with an interval


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric."""

    name: str  # its column in records; the ends of its interval are in the columns ``…_low`` and ``…_high``
    heading: str  # of its column; ``{k}`` is the length of lists, and a ranking metric without it is of whole ones
    # Returns a finite number for each row, whose mean is the metric; None for one that only all rows together have.
    per_row: Callable[..., Any] | None = None
    format: Callable[[Any], str] = formats.metric  # text of a value
    bounds: tuple[float, float] = (0, 1)  # between which values are, and at which intervals are cut
    lower_is_better: bool = False
    note: str = ""  # how to read it, for the "How to read this page" of a report

    @property
    def title(self) -> str:
        """Its heading on one line, without the length of lists."""
        return self.heading.replace("@{k}", "").replace("-\n", "").replace("\n", " ").strip()

    def values(self, rows: int, *inputs: Any) -> Floats:
        """Return its value for each row, shape (rows,); raise ValueError if `per_row` returned something else."""
        assert self.per_row is not None
        values = np.asarray(self.per_row(*inputs), dtype=np.float64)
        if values.shape != (rows,) or not np.isfinite(values).all():
            raise ValueError(
                f"metric {self.name}: per_row returned values of shape {values.shape}, {(~np.isfinite(values)).sum()} "
                f"of them not finite; expected a finite number for each of {rows} rows."
            )
        return values

    def is_best(self, record: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether no record has a better value than one of them."""
        values, own = [each[self.name] for each in records if each.get(self.name) is not None], record.get(self.name)
        return own is not None and own == (min(values) if self.lower_is_better else max(values))

    def text(self, value: float | None) -> str:
        return formats.DASH if value is None else self.format(value)

    def interval(self, low: float | None, high: float | None) -> str:
        return formats.DASH if low is None or high is None else f"{self.format(low)} to {self.format(high)}"

    def estimate(self, value: float | None, low: float | None = None, high: float | None = None) -> str:
        """Format a value above its interval, for a narrow column."""
        interval = "" if low is None or high is None else f"\n{self.format(low)}-{self.format(high)}"
        return self.text(value) + interval


class RowMetric(Metric):
    """A metric of predictions, whose `per_row` takes labels (True for a like) and scores, both of shape (rows,)."""


class RankingMetric(Metric):
    """A metric of lists, whose `per_row` takes `recommendation.ranking_metrics.RankedLists`."""


M = TypeVar("M", bound=Metric)


def with_installed(own: tuple[M, ...], kind: type[M]) -> tuple[M, ...]:
    """Return metrics of a kind, and those that packages declare; ValueError for what is none, or has a name twice."""
    metrics = {metric.name: metric for metric in own}
    for name, metric in entry_point_objects(METRICS_GROUP):
        if not isinstance(metric, RowMetric | RankingMetric):
            raise ValueError(
                f"The entry point {name} of {METRICS_GROUP} names {metric!r}; expected a RowMetric or a RankingMetric "
                "of reclora_kedro.evaluation.metric, as package.module:NAME."
            )
        if isinstance(metric, kind):
            if metric.name in metrics:
                raise ValueError(f"The entry point {name} declares a second metric {metric.name}: rename it.")
            metrics[metric.name] = metric
    return tuple(metrics.values())


def columns_of(metrics: Iterable[Metric]) -> list[str]:
    """Return the columns of metrics, and of the intervals of those that are means over rows."""
    return [f"{metric.name}{end}" for metric in metrics for end in (ENDS if metric.per_row else ENDS[:1])]
