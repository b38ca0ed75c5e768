"""Figures of a study, in the style of the evaluation's."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from reclora_kedro.baselines.registry import attributes
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.figures import add_curve, error_bars, stacked_panels
from reclora_kedro.evaluation.styles import Style, model_styles
from reclora_kedro.study.grid import describe
from reclora_kedro.study.results import GridResults, Records, grids_of, grouped

if TYPE_CHECKING:
    import plotly.graph_objects as go

PANEL_HEIGHT = 360  # pixels


def plot_axes(results: Records) -> go.Figure:
    """Draw AUC or hit rate by setting, one panel per grid and axis: means over seeds and other axes, with intervals."""
    grids, styles = grids_of(results), _styles(results)
    counts, level = sorted({len(grid.seeds) for grid in grids}), formats.level(results[0]["confidence"])
    seeds = f"means of {' or '.join(map(str, counts))} seeds and their {level} intervals"
    over = "one seed" if counts == [1] else seeds
    panels = {f"{grid.name}: by {axis}": (grid, axis) for grid in grids for axis in grid.axes}
    title = f"{' and '.join(_labels(grids))} by setting ({over})"
    figure, drawn = stacked_panels(title, dict.fromkeys(panels, PANEL_HEIGHT)), set[str]()
    for row, (grid, axis) in enumerate(panels.values(), start=1):
        figure.update_yaxes(title=grid.label, row=row, col=1)
        for model, points in grouped(grid.summarise([axis]), "model").items():
            settings, reached = zip(*((point["place"][axis], point[grid.metric]) for point in points), strict=True)
            hover, bars = f"%{{x}}: {grid.label} %{{y:.4f}}", error_bars(points, grid.metric)
            shown: dict[str, Any] = {"name": model, "showlegend": model not in drawn, "hovertemplate": hover}
            add_curve(figure, styles[model], settings, reached, error_y=bars, row=row, col=1, **shown)
            drawn.add(model)
    return figure.update_xaxes(type="category")


def plot_frontier(results: Records) -> go.Figure:
    """Draw AUC or hit rate against milliseconds per scored row and seconds of training, a point per cell and model."""
    grids = grids_of(results)
    points = [
        summary | {"cell": f"{grid.name}: {describe(summary['place'])}", "reached": summary[grid.metric]}
        for grid in grids
        for summary in grid.summarise()
    ]
    best, label = max(points, key=itemgetter("reached")), " or ".join(_labels(grids))
    title = f"Highest {label}: {best['model']}, {best['reached']:.3f} at {best['ms_per_row']:.3g} ms per row"
    costs = {
        "ms_per_row": "Milliseconds per scored row (log scale)",
        "train_seconds": "Seconds of training (log scale)",
    }
    figure = stacked_panels(title, dict.fromkeys(costs.values(), PANEL_HEIGHT))
    for model, style in _styles(results).items():
        for row, cost in enumerate(costs, start=1):
            measured = [point for point in points if point["model"] == model and point[cost] is not None]
            spent, reached, cells = ([point[name] for point in measured] for name in (cost, "reached", "cell"))
            shown: dict[str, Any] = {"name": model, "text": cells, "hovertemplate": "%{text}: %{y:.4f}, %{x:.3g}"}
            add_curve(figure, style, spent, reached, mode="markers", showlegend=row == 1, row=row, col=1, **shown)
    return figure.update_xaxes(type="log").update_yaxes(title=label)


def _labels(grids: list[GridResults]) -> list[str]:
    return list(dict.fromkeys(grid.label for grid in grids))


def _styles(results: Records) -> dict[str, Style]:
    models = dict.fromkeys(record["model"] for record in results)
    return model_styles(models, attributes("STYLE", models))
