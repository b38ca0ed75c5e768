"""Figures of a study, in the style of the evaluation's."""

from operator import itemgetter

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reclora_kedro.baselines.registry import attributes
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.figures import TEMPLATE, error_bars
from reclora_kedro.evaluation.styles import Style, model_styles
from reclora_kedro.study.grid import describe
from reclora_kedro.study.results import (
    Records,
    axes_of,
    by_model,
    grids_of,
    metric_label,
    metric_of,
    seeds_of,
    summarise,
)

PANEL_HEIGHT = 360  # pixels


def plot_axes(results: Records) -> go.Figure:
    """Draw AUC or hit rate by setting, one panel per grid and axis: means over seeds and other axes, with intervals."""
    panels = [(grid, axis) for grid in grids_of(results) for axis in axes_of(results, grid)]
    styles = _styles(results)
    figure = make_subplots(
        rows=len(panels),
        subplot_titles=[f"{grid}: by {axis}" for grid, axis in panels],
        vertical_spacing=0.3 / len(panels),
    )
    drawn: set[str] = set()
    for row, (grid, axis) in enumerate(panels, start=1):
        metric, label = metric_of(results, grid), metric_label(results, grid)
        figure.update_yaxes(title=label, row=row, col=1)
        for model, points in by_model(summarise(results, grid, [axis])).items():
            style = styles[model]
            figure.add_scatter(
                x=[point["place"][axis] for point in points],
                y=[point[metric] for point in points],
                error_y=error_bars(points, metric),
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker={"color": style.color, "symbol": style.symbol, "size": 9},
                name=model,
                legendgroup=model,
                showlegend=model not in drawn,
                hovertemplate=f"%{{x}}: {label} %{{y:.4f}}",
                row=row,
                col=1,
            )
            drawn.add(model)
    counts = sorted({len(seeds_of(results, grid)) for grid in grids_of(results)})
    seeds, level = " or ".join(map(str, counts)), formats.level(results[0]["confidence"])
    over = "one seed" if counts == [1] else f"means of {seeds} seeds and their {level} intervals"
    figure.update_xaxes(type="category")
    height = 170 + PANEL_HEIGHT * len(panels)
    legend = {"y": -70 / (PANEL_HEIGHT * len(panels)), "yanchor": "top"}  # below the last panel and its axis
    return figure.update_layout(
        template=TEMPLATE,
        title_text=f"{' and '.join(_labels(results))} by setting ({over})",
        height=height,
        legend=legend,
        margin_b=110,
    )


def plot_frontier(results: Records) -> go.Figure:
    """Draw AUC or hit rate against milliseconds per scored row and seconds of training, a point per cell and model."""
    points = [
        summary | {"cell": f"{grid}: {describe(summary['place'])}", "reached": summary[metric_of(results, grid)]}
        for grid in grids_of(results)
        for summary in summarise(results, grid)
    ]
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    for model, style in _styles(results).items():
        for col, cost in ((1, "ms_per_row"), (2, "train_seconds")):
            measured = [point for point in points if point["model"] == model and point[cost] is not None]
            figure.add_scatter(
                x=[point[cost] for point in measured],
                y=[point["reached"] for point in measured],
                text=[point["cell"] for point in measured],
                mode="markers",
                marker={"color": style.color, "symbol": style.symbol, "size": 10, "opacity": 0.8},
                name=model,
                legendgroup=model,
                showlegend=col == 1,
                hovertemplate="%{text}: %{y:.4f}, %{x:.3g}",
                row=1,
                col=col,
            )
    best = max(points, key=itemgetter("reached"))
    figure.update_xaxes(title="Milliseconds per scored row (log scale)", type="log", col=1)
    figure.update_xaxes(title="Seconds of training (log scale)", type="log", col=2)
    label = " or ".join(_labels(results))
    figure.update_yaxes(title=label, col=1)
    title = f"Highest {label}: {best['model']}, {best['reached']:.3f} at {best['ms_per_row']:.3g} ms per row"
    return figure.update_layout(template=TEMPLATE, title_text=title)


def _labels(results: Records) -> list[str]:
    return list(dict.fromkeys(metric_label(results, grid) for grid in grids_of(results)))


def _styles(results: Records) -> dict[str, Style]:
    models = dict.fromkeys(record["model"] for record in results)
    return model_styles(models, attributes("STYLE", models))
