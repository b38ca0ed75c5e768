"""Figures of a study, in the style of the evaluation's."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reclora_kedro.evaluation.figures import TEMPLATE, model_styles
from reclora_kedro.study.results import Records, axes_of, grids_of, summarise

PANEL_HEIGHT = 360  # pixels


def plot_axes(results: Records) -> go.Figure:
    """AUC by setting, a panel per axis of each grid and a line per model: means over the seeds and the other axes.

    Bars are standard errors over the seeds.
    """
    panels = [(grid, axis) for grid in grids_of(results) for axis in axes_of(results, grid)]
    styles = model_styles(dict.fromkeys(record["model"] for record in results))
    figure = make_subplots(
        rows=len(panels),
        subplot_titles=[f"{grid}: by {axis}" for grid, axis in panels],
        vertical_spacing=0.3 / len(panels),
    )
    seen: set[str] = set()
    for row, (grid, axis) in enumerate(panels, start=1):
        lines: dict[str, list[dict[str, Any]]] = {}
        for place, models in summarise(results, grid, [axis]):
            for summary in models:
                lines.setdefault(summary.model, []).append({"setting": place[0][1], **asdict(summary)})
        for model, points in lines.items():
            style = styles[model]
            figure.add_scatter(
                x=[point["setting"] for point in points],
                y=[point["auc"] for point in points],
                error_y={"array": [point["auc_error"] for point in points], "thickness": 1.5, "width": 4},
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker={"symbol": style.symbol, "size": 9},
                name=model,
                legendgroup=model,
                showlegend=model not in seen,
                hovertemplate="%{x}: AUC %{y:.4f}",
                row=row,
                col=1,
            )
            seen.add(model)
    seeds = {record["seed"] for record in results}
    over = f"means of {len(seeds)} seeds and their standard errors" if len(seeds) > 1 else "one seed"
    figure.update_xaxes(type="category")
    figure.update_yaxes(title="AUC")
    height = 170 + PANEL_HEIGHT * len(panels)
    legend = {"y": -70 / (PANEL_HEIGHT * len(panels)), "yanchor": "top"}  # below the last panel and its axis
    return figure.update_layout(
        template=TEMPLATE, title_text=f"AUC by setting ({over})", height=height, legend=legend, margin_b=110
    )


def plot_frontier(results: Records) -> go.Figure:
    """AUC against what it costs: milliseconds per scored row, and seconds of training; a point per cell and model."""
    styles = model_styles(dict.fromkeys(record["model"] for record in results))
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    points: dict[str, list[dict[str, Any]]] = {}
    for grid in grids_of(results):
        for place, models in summarise(results, grid, axes_of(results, grid)):
            for summary in models:
                points.setdefault(summary.model, []).append({"cell": describe(grid, dict(place)), **asdict(summary)})
    for model, of_model in points.items():
        style = styles[model]
        for col, cost in ((1, "ms_per_row"), (2, "train_seconds")):
            known = [point for point in of_model if point[cost] is not None]
            figure.add_scatter(
                x=[point[cost] for point in known],
                y=[point["auc"] for point in known],
                text=[point["cell"] for point in known],
                mode="markers",
                marker={"color": style.color, "symbol": style.symbol, "size": 10, "opacity": 0.8},
                name=model,
                legendgroup=model,
                showlegend=col == 1,
                hovertemplate="%{text}: AUC %{y:.4f}, %{x:.3g}",
                row=1,
                col=col,
            )
    best = max((point for of_model in points.values() for point in of_model), key=lambda point: point["auc"])
    figure.update_xaxes(title="Milliseconds per scored row (log scale)", type="log", col=1)
    figure.update_xaxes(title="Seconds of training (log scale)", type="log", col=2)
    figure.update_yaxes(title="AUC", col=1)
    title = f"What AUC costs: the highest, {best['auc']:.3f} of {best['model']}, {best['ms_per_row']:.3g} ms per row"
    return figure.update_layout(template=TEMPLATE, title_text=title)


def describe(grid: str, place: Mapping[str, str]) -> str:
    """A cell in the words of its grid.

    Examples:
        >>> describe("few_shot", {"rows": "128"})
        'few_shot, rows 128'
    """
    return ", ".join([grid, *(f"{axis} {setting}" for axis, setting in place.items())])
