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
from reclora_kedro.study.results import Records, by_model, grids_of, metric_label, metric_of, seeds_of, summarise
from reclora_kedro.terminal import text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def best_settings(results: Records) -> list[str]:
    """State for each grid and model the place that validates best, and its metric on test rows."""
    sentences = []
    for grid in grids_of(results):
        metric, label = metric_of(results, grid), metric_label(results, grid)
        validation = f"validation_{metric}"
        for model, summaries in by_model(summarise(results, grid)).items():
            validated = [summary for summary in summaries if summary[validation] is not None]
            if len({summary[validation] for summary in validated}) > 1:  # else the grid does not touch the model
                best = max(validated, key=itemgetter(validation))
                sentences.append(
                    f"{grid}: validation chooses {describe(best['place'])} for {model} ({best[validation]:.3f}); "
                    f"its {label} on test rows is {best[metric]:.3f}."
                )
    return sentences


def study_tables(results: Records) -> Group:
    """Tabulate AUC or hit rate of every model at every place, one table per grid."""
    return Group(*(_table_of(results, grid) for grid in grids_of(results)))


def _table_of(results: Records, grid: str) -> Table:
    summaries, metric, label = summarise(results, grid), metric_of(results, grid), metric_label(results, grid)
    seeds, interval = summaries[0]["seeds"], f"{formats.level(results[0]['confidence'])} interval"
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    places = {axis: (str, axis) for axis in summaries[0]["place"]}
    numbers: dict[str, tuple[Any, ...]] = {label: (formats.metric, metric)}
    if seeds > 1:
        numbers[interval] = (formats.interval, f"{metric}_low", f"{metric}_high")
    return text_table(
        f"{grid}: {label} on test rows, {over}",
        [summary | summary["place"] for summary in summaries],
        places | {"model": (str, "model")},
        numbers | {"validation": (formats.metric, f"validation_{metric}")},
    )


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, go.Figure]) -> str:
    """Render the self-contained HTML page of a study: best settings, a table per grid, and the figures."""
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=[
            {
                "title": titles[grid],
                "summaries": summarise(results, grid),
                "seeds": seeds_of(results, grid),
                "metric": metric_of(results, grid),
                "label": metric_label(results, grid),
                "further": [
                    metric
                    for metric in (row_metrics() if metric_of(results, grid) == "auc" else ranking_metrics())
                    if metric.name != metric_of(results, grid)
                ],
            }
            for grid in grids_of(results)
        ],
        confidence=results[0]["confidence"],
    )
