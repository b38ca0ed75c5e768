"""Figures of the evaluation, all in one style.

Transparent backgrounds and mid-grey inks suit light and dark pages. `baselines` holds the baselines' styles by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metrics import kept_validation
from reclora_kedro.evaluation.records import ModelMetrics, Records
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.styles import VARIANT_STYLES, Style, model_styles
from reclora_kedro.extras import require_extra

if TYPE_CHECKING:
    import plotly.graph_objects as go

Styles = Mapping[str, Style]

INK, GRID = "#757B85", "rgba(128,134,145,0.25)"
LINES = {"gridcolor": GRID, "linecolor": INK, "showline": True, "ticks": "outside", "tickcolor": INK, "zeroline": False}
AXIS = {**LINES, "automargin": True, "title": {"font": {"size": 13}}}
TEMPLATE = {
    "layout": {
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        "title": {"x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 16}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 20, "r": 24, "t": 84, "b": 60},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "height": 440,
    }
}
ROC_POINTS = 400  # vertices per curve: finer than a screen, small enough for a report
CALIBRATION_BINS = 10
PANEL_HEIGHT, PANEL_SPACING = 260, 96  # pixels of a panel, and between two of them for axis and titles
LEGEND_BELOW = {"y": -0.2, "yanchor": "top", "entrywidth": 175}
MODEL_AXIS = {"autorange": "reversed", "showgrid": False}  # the first one on top
TITLE_FPR = 0.2  # false positive rate at which the ROC title compares the curves


def plot_auc(metrics: Sequence[ModelMetrics], baselines: Styles) -> go.Figure:
    """Draw a dot plot of every model's AUC with its interval."""
    best = max(metrics, key=itemgetter("auc"))
    styles = model_styles((record["model"] for record in metrics), baselines)
    figure = empty_figure()
    for record in metrics:
        _add_dot(figure, "auc", record, styles[record["model"]])
    figure.update_yaxes(MODEL_AXIS)
    return figure.update_layout(
        title_text=f"{best['model']} has the highest AUC: {best['auc']:.3f} on {best['rows']:,} test rows",
        xaxis_title=f"AUC and {formats.level(best['confidence'])} interval",
        height=150 + 60 * len(metrics),
        margin_t=60,
        showlegend=False,
    )


def plot_ranking(metrics: Records, baselines: Styles) -> go.Figure:
    """Draw dot plots of every model's hit rate and NDCG with their intervals, at the first cutoff."""
    k = metrics[0]["k"]
    first = [record for record in metrics if record["k"] == k]
    best = max(first, key=itemgetter("ndcg"))
    likes = f"{best['rows']:,} likes of {best['users']:,} users"
    title = f"{best['model']} ranks best: NDCG@{k} {best['ndcg']:.3f} on {likes}"
    figure = stacked_panels(title, dict.fromkeys(_list_metrics(k), 46 * len(first)))
    styles = model_styles((record["model"] for record in first), baselines)
    for record in first:
        for row, metric in enumerate(("hit_rate", "ndcg"), start=1):
            _add_dot(figure, metric, record, styles[record["model"]], row=row, col=1)
    figure.update_xaxes(title=f"Mean and {formats.level(best['confidence'])} interval", rangemode="tozero")
    return figure.update_yaxes(MODEL_AXIS).update_layout(showlegend=False)


def plot_backtest(metrics: Records, baselines: Styles) -> go.Figure:
    """Draw hit rate and NDCG of every method by window of time, with their intervals."""
    k, windows = metrics[0]["k"], max(record["window"] for record in metrics)
    means: dict[str, float] = {}
    for record in metrics:
        means[record["model"]] = means.get(record["model"], 0.0) + record["ndcg"] / windows
    best = max(means, key=means.__getitem__)
    title = f"{best} has the highest mean NDCG@{k} over {windows} windows: {means[best]:.3f}"
    figure = stacked_panels(title, dict.fromkeys(_list_metrics(k), PANEL_HEIGHT))
    for model, style in model_styles(means, baselines).items():
        own: Records = [record for record in metrics if record["model"] == model]
        for row, metric in enumerate(("hit_rate", "ndcg"), start=1):
            days, values = [record["from"] for record in own], [record[metric] for record in own]
            shown: dict[str, Any] = {"name": model, "showlegend": row == 1, "hovertemplate": "%{y:.3f} from %{x}"}
            add_curve(figure, style, days, values, error_y=error_bars(own, metric), row=row, col=1, **shown)
    return figure.update_xaxes(title="First day of the window").update_yaxes(rangemode="tozero")


def _list_metrics(k: int) -> tuple[str, str]:
    return f"Hit rate of the first {k}", f"NDCG of the first {k}"


def plot_second_stage(importance: Mapping[str, float], weights: Mapping[str, float]) -> go.Figure:
    """Draw how much the ranker's trees gain by each feature, and the weights of the fusion."""
    title = f"Most important feature of the second stage: {next(iter(importance), 'none')}"
    panels = {"Ranker: share of the gain": importance, "Fusion: weights": weights}
    figure = stacked_panels(title, {name: 22 * max(len(values), 2) for name, values in panels.items()})
    for row, values in enumerate(panels.values(), start=1):
        bars = {"x": [*values.values()], "y": [*values], "orientation": "h", "marker_color": "#4C78A8"}
        figure.add_bar(**bars, hovertemplate="%{y}: %{x:.3g}<extra></extra>", row=row, col=1)
    return figure.update_yaxes(MODEL_AXIS).update_layout(showlegend=False)


def plot_hit_rates(curves: Mapping[str, tuple[npt.NDArray, npt.NDArray]], baselines: Styles) -> go.Figure:
    """Draw every model's hit rate by list length, see `ranking_metrics.hit_rate_curves`."""
    figure = empty_figure()
    for (model, style), curve in zip(model_styles(curves, baselines).items(), curves.values(), strict=True):
        add_curve(figure, style, *curve, size=0, name=model, hovertemplate="%{y:.1%} among the first %{x}")
    figure.update_xaxes(title="Number of first items (log scale)", type="log")
    figure.update_yaxes(title="Hit rate", rangemode="tozero")
    return figure.update_layout(title_text="Hit rate by list length", height=590, legend=LEGEND_BELOW)


def plot_roc(paired: PairedScores, baselines: Styles) -> go.Figure:
    """Draw the ROC curves of all models on the same rows, thinned to `ROC_POINTS` vertices each."""
    from sklearn.metrics import roc_curve

    curves = [roc_curve(paired.labels, scores)[:2] for scores in paired.scores]
    recalls = [float(np.interp(TITLE_FPR, fpr, tpr)) for fpr, tpr in curves]
    best = int(np.argmax(recalls))
    ranked = f"{recalls[best]:.0%} of the likes above {1 - TITLE_FPR:.0%} of the dislikes"
    axes = "Share of the dislikes above the threshold", "Share of the likes above the threshold"
    figure = _square_plot(f"{paired.models[best]} ranks {ranked}", *axes, diagonal="chance")
    figure.update_yaxes(range=[0, 1.005])
    for (model, style), (fpr, tpr) in zip(model_styles(paired.models, baselines).items(), curves, strict=True):
        kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, ROC_POINTS)).clip(max=len(fpr) - 1))
        hover = "%{y:.0%} of the likes, %{x:.0%} of the dislikes"
        add_curve(figure, style, fpr[kept], tpr[kept], size=0, name=model, hovertemplate=hover)
    return figure


def plot_calibration(paired: PairedScores, baselines: Styles) -> go.Figure:
    """Draw reliability curves over score deciles, with the expected calibration error in the legend."""
    tables = [calibration_table(paired.labels, scores, CALIBRATION_BINS) for scores in paired.scores]
    errors = [(table["mean_score"] - table["share_of_likes"]).abs() for table in tables]
    gaps = [float(np.average(error, weights=table["rows"])) for error, table in zip(errors, tables, strict=True)]
    best = int(np.argmin(gaps))
    title = f"{paired.models[best]} is calibrated best: {100 * gaps[best]:.1f} percentage points off on average"
    axes = "Mean score of the bin", "Share of likes in the bin"
    figure = _square_plot(title, *axes, diagonal="perfect calibration")
    for (model, style), table, gap in zip(model_styles(paired.models, baselines).items(), tables, gaps, strict=True):
        scores, likes, counts = table.to_dict(as_series=False).values()
        hover = "scored %{x:.3f}, liked %{y:.1%}, %{customdata:,} rows"
        name = f"{model} ({100 * gap:.1f} off)"
        add_curve(figure, style, scores, likes, customdata=counts, name=name, hovertemplate=hover)
    return figure


def calibration_table(labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], bins: int) -> pl.DataFrame:
    """Return mean_score, share_of_likes and rows of each quantile bin of the scores; ties share a bin.

    Examples:
        >>> labels, scores = np.array([False, True, True, True]), np.array([0.1, 0.3, 0.6, 0.8])
        >>> calibration_table(labels, scores, bins=2).rows()
        [(0.2, 0.5, 2), (0.7, 1.0, 2)]
    """
    inner_edges = np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1])
    table = pl.DataFrame({"score": scores, "label": labels, "bin": np.searchsorted(inner_edges, scores)})
    score, label = pl.col("score").mean(), pl.col("label").mean()
    return table.group_by("bin").agg(mean_score=score, share_of_likes=label, rows=pl.len()).sort("bin").drop("bin")


def plot_training(**training_logs: pl.DataFrame) -> go.Figure:
    """Draw each model's losses and validation AUC by training rows seen; raise ValueError for a log without any AUC."""
    aucs = {model: kept_validation(log) for model, log in training_logs.items()}
    for model, kept in aucs.items():
        if kept is None:
            rows = training_logs[model].height
            raise ValueError(f"The log of {model!r} has no validation AUC in {rows} row(s). Train that model again.")
    title = "Validation AUC: " + ", ".join(f"{model} {kept:.3f}" for model, kept in aucs.items())
    figure = stacked_panels(title, dict.fromkeys(("Loss (pale: training)", "Validation AUC"), PANEL_HEIGHT))
    for (model, log), style in zip(training_logs.items(), model_styles(training_logs, {}).values(), strict=True):
        thin: dict[str, Any] = {"size": 0, "opacity": 0.55}
        for column, row, drawn in (("train_loss", 1, thin), ("validation_loss", 1, {}), ("validation_auc", 2, {})):
            seen, values = (log.drop_nulls(column)[name].to_list() for name in ("rows", column))
            hover = f"{'training' if drawn else 'validation'} %{{y:.4f}} after %{{x:,}} rows"
            shown = {"name": model, "showlegend": row == 2, "hovertemplate": hover, **drawn}
            add_curve(figure, style, seen, values, row=row, col=1, **shown)
    figure.update_xaxes(title="Training rows seen (log scale)", type="log", dtick=1)
    return figure.update_yaxes(title="Log loss (nats per row)", row=1)


def plot_retriever(training_log: Records) -> go.Figure:
    """Draw a retriever's loss, and hit rate and NDCG of the validation likes, by epoch."""
    best = max(training_log, key=itemgetter("hit_rate", "ndcg"))
    title = f"Best epoch: {best['epoch']}, hit rate {best['hit_rate']:.3f} and NDCG {best['ndcg']:.3f}"
    panels = {
        "Training loss (nats per event)": {"loss": "loss"},
        "Validation likes: hit rate and NDCG of the first 10": {"hit_rate": "hit rate", "ndcg": "NDCG"},
    }
    return _plot_log(training_log, "epoch", title, panels)


def plot_encoder(training_log: Records) -> go.Figure:
    """Draw an item encoder's losses and validation AUC by tuning step."""
    first, best = training_log[0], max(training_log, key=itemgetter("validation_auc"))
    title = f"Best step: {best['step']}, AUC {best['validation_auc']:.3f} (untuned: {first['validation_auc']:.3f})"
    panels = {
        "Loss (nats per text)": {"loss": "training loss", "validation_loss": "validation loss"},
        "AUC of the validation pairs": {"validation_auc": "AUC"},
    }
    return _plot_log(training_log, "step", title, panels)


def _plot_log(log: Records, x: str, title: str, panels: Mapping[str, Mapping[str, str]]) -> go.Figure:
    """Draw columns of a training log over one of them; `panels` has their labels by panel and column."""
    figure, styles = stacked_panels(title, dict.fromkeys(panels, PANEL_HEIGHT)), iter(VARIANT_STYLES)
    for row, columns in enumerate(panels.values(), start=1):
        for column, label in columns.items():
            measured = [record for record in log if record[column] is not None]
            points = [record[x] for record in measured], [record[column] for record in measured]
            add_curve(figure, next(styles), *points, name=label, row=row, col=1)
    return figure.update_xaxes(title=x.capitalize()).update_yaxes(rangemode="tozero", row=2)


def save_pictures(reports: str | PathLike[str], folder: str | PathLike[str], width: int = 900) -> list[Path]:
    """Write the newest version of each figure in a folder of reports, such as data/08_reporting, as PNG.

    The extra ``pictures`` draws them, by a Chrome or Chromium of this machine, at two pixels per unit of `width`.
    FileNotFoundError is raised for a folder without figures.
    """
    import plotly.io

    newest = {file.name: file for file in sorted(Path(reports).glob("*_figure.json/*/*_figure.json"))}
    if not newest:
        raise FileNotFoundError(f"{reports} has no figures: make them first, as with `kedro run --pipelines ranking`.")
    require_extra("pictures", "Drawing figures as PNG")
    Path(folder).mkdir(parents=True, exist_ok=True)
    pictures = [Path(folder, name).with_suffix(".png") for name in newest]
    figures = [plotly.io.read_json(file).update_layout(paper_bgcolor="white") for file in newest.values()]
    for picture in pictures:
        picture.unlink(missing_ok=True)
    plotly.io.write_images(figures, pictures, width=width, scale=2)
    for figure, picture in zip(figures, pictures, strict=True):
        if not picture.exists():  # since write_images drops a figure that it could not draw, without an error
            plotly.io.write_image(figure, picture, width=width, scale=2)
    return pictures


def stacked_panels(title: str, heights: Mapping[str, int]) -> go.Figure:
    """Return a figure of panels one below the other, which fit a phone, too: their titles and heights in pixels."""
    inside, panels = sum(heights.values()) + PANEL_SPACING * (len(heights) - 1), [*heights]
    figure = empty_figure(
        rows=len(panels),
        subplot_titles=panels,
        row_heights=[*heights.values()],
        vertical_spacing=PANEL_SPACING / inside,
    ).update_annotations(x=0, xanchor="left", font_size=14)
    return figure.update_layout(title_text=title, height=inside + 180, legend_y=1 + 44 / inside, margin_t=120)


def empty_figure(**panels: Any) -> go.Figure:
    """Return a figure in the style of all, with panels as of plotly's ``make_subplots``."""
    from plotly.subplots import make_subplots  # not where this is imported: see `reclora_kedro.pipelines`

    return make_subplots(**panels).update_layout(template=TEMPLATE, overwrite=True)


def add_curve(figure: go.Figure, style: Style, x: Any, y: Any, *, size: int = 8, **trace: Any) -> None:
    """Draw a line in a model's style, with markers of a size unless it is 0.

    Where `showlegend` is set, lines of one name are one in the legend.
    """
    marker = {"color": style.color, "symbol": style.symbol, "size": size}
    line = {"color": style.color, "dash": style.dash, "width": 2}
    drawn = {"mode": "lines+markers" if size else "lines", "marker": marker, "line": line}
    group = {"legendgroup": trace["name"]} if "showlegend" in trace else {}
    figure.add_scatter(x=x, y=y, **drawn | group | trace)


def error_bars(records: Records, metric: str) -> dict[str, Any] | None:
    """Return plotly's error bars of a metric's intervals; None where a record has no interval."""
    if any(record[f"{metric}_low"] is None for record in records):
        return None
    above = [record[f"{metric}_high"] - record[metric] for record in records]
    below = [record[metric] - record[f"{metric}_low"] for record in records]
    return {"array": above, "arrayminus": below, "thickness": 2, "width": 6}


def _add_dot(figure: go.Figure, metric: str, record: Mapping[str, Any], style: Style, **place: int) -> None:
    """Draw a metric of a model with its interval and its value."""
    value, name, ends = record[metric], record["model"], (record[f"{metric}_low"], record[f"{metric}_high"])
    hover = f"%{{x:.4f}} [{ends[0]:.4f}, {ends[1]:.4f}]"
    text: dict[str, Any] = {"mode": "markers+text", "text": [f"{value:.3f}"], "textposition": "top center"}
    text |= {"hovertemplate": hover, "cliponaxis": False}  # else the value of the first model would be cut
    add_curve(figure, style, [value], [name], size=12, error_x=error_bars([record], metric), name=name, **text, **place)


def _square_plot(title: str, x_title: str, y_title: str, diagonal: str) -> go.Figure:
    # Beside the plot a legend would take its width; with one below, this is about square on a phone, too.
    figure = empty_figure().update_layout(title_text=title, height=590, legend=LEGEND_BELOW)
    figure.update_xaxes(title=x_title, range=[0, 1]).update_yaxes(title=y_title, range=[0, 1])
    line = {"color": INK, "width": 1, "dash": "dot"}
    return figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name=diagonal, line=line, hoverinfo="skip")
