"""Results of a study in words, on the terminal and as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metrics import row_metrics
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.recommendation.list_metrics import ranking_metrics
from reclora_kedro.study.grid import describe
from reclora_kedro.study.results import GridResults, Records, grids_of, grouped
from reclora_kedro.terminal import text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def best_settings(results: Records) -> list[str]:
    """State for each grid and model the place that validates best, and its metric on test rows."""
    sentences = []
    for grid in grids_of(results):
        validation = f"validation_{grid.metric}"
        for model, summaries in grouped(grid.summarise(), "model").items():
            validated = [summary for summary in summaries if summary[validation] is not None]
            if len({summary[validation] for summary in validated}) > 1:  # else the grid does not touch the model
                best = max(validated, key=itemgetter(validation))
                sentences.append(
                    f"{grid.name}: validation chooses {describe(best['place'])} for {model} ({best[validation]:.3f}); "
                    f"its {grid.label} on test rows is {best[grid.metric]:.3f}."
                )
    return sentences


def study_tables(results: Records) -> Group:
    """Tabulate AUC or hit rate of every model at every place, one table per grid."""
    return Group(*map(_table_of, grids_of(results)))


def _table_of(grid: GridResults) -> Table:
    summaries, metric = grid.summarise(), grid.metric
    seeds, interval = summaries[0]["seeds"], f"{formats.level(grid.records[0]['confidence'])} interval"
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    numbers: dict[str, tuple[Any, ...]] = {grid.label: (formats.metric, metric)}
    if seeds > 1:
        numbers[interval] = (formats.interval, f"{metric}_low", f"{metric}_high")
    return text_table(
        f"{grid.name}: {grid.label} on test rows, {over}",
        [summary | summary["place"] for summary in summaries],
        {axis: (str, axis) for axis in grid.axes} | {"model": (str, "model")},
        numbers | {"validation": (formats.metric, f"validation_{metric}")},
    )


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, go.Figure]) -> str:
    """Render the self-contained HTML page of a study: best settings, a table per grid, and the figures."""
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=grids_of(results),
        grid_titles=titles,
        further={"auc": row_metrics(), "hit_rate": ranking_metrics()},
        confidence=results[0]["confidence"],
    )
