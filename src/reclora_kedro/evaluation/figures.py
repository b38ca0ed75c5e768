"""Figures of the evaluation, all in one style.

Transparent backgrounds and mid-grey inks suit light and dark pages. `baselines` holds the baselines' styles by name.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots
from sklearn.metrics import roc_curve

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metrics import kept_validation
from reclora_kedro.evaluation.records import Records
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.styles import VARIANT_STYLES, Style, model_styles

Styles = Mapping[str, Style]

INK, GRID = "#757B85", "rgba(128,134,145,0.25)"
AXIS = {"gridcolor": GRID, "linecolor": INK, "showline": True, "ticks": "outside", "tickcolor": INK, "zeroline": False}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        "title": {"x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 16}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 70, "r": 24, "t": 84, "b": 60},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "height": 440,
    }
)
ROC_POINTS = 400  # vertices per curve: finer than a screen, small enough for a report
CALIBRATION_BINS = 10
MODEL_AXIS = {"autorange": "reversed", "showgrid": False, "automargin": True}  # the first one on top
TITLE_FPR = 0.2  # false positive rate at which the ROC title compares the curves


def plot_auc(metrics: Records, baselines: Styles) -> go.Figure:
    """Draw a dot plot of every model's AUC with its interval."""
    best = max(metrics, key=itemgetter("auc"))
    styles = model_styles((record["model"] for record in metrics), baselines)
    figure = go.Figure([_dot("auc", record, styles[record["model"]]) for record in metrics])
    figure.update_yaxes(MODEL_AXIS)
    return figure.update_layout(
        template=TEMPLATE,
        title_text=f"{best['model']} has the highest AUC: {best['auc']:.3f} on {best['rows']:,} test rows",
        xaxis_title=f"AUC and {formats.level(best['confidence'])} interval (0.5: chance)",
        height=150 + 60 * len(metrics),
        margin_t=60,
        showlegend=False,
    )


def plot_ranking(metrics: Records, baselines: Styles) -> go.Figure:
    """Draw dot plots of every model's hit rate and NDCG with their intervals, at the first cutoff."""
    k = metrics[0]["k"]
    first = [record for record in metrics if record["k"] == k]
    best = max(first, key=itemgetter("ndcg"))
    styles = model_styles((record["model"] for record in first), baselines)
    titles = (f"Hit rate of the first {k}", f"NDCG of the first {k}")
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=titles)
    for record in first:
        for col, metric in enumerate(("hit_rate", "ndcg"), start=1):
            figure.add_trace(_dot(metric, record, styles[record["model"]]), row=1, col=col)
    figure.update_xaxes(title=f"mean over likes and {formats.level(best['confidence'])} interval", rangemode="tozero")
    figure.update_yaxes(MODEL_AXIS)
    likes = f"{best['rows']:,} likes of {best['users']:,} users"
    return figure.update_layout(
        template=TEMPLATE,
        title_text=f"{best['model']} ranks best: NDCG@{k} {best['ndcg']:.3f} over {likes}",
        height=190 + 60 * len(first),
        showlegend=False,
    )


def plot_backtest(records: Records, baselines: Styles) -> go.Figure:
    """Draw hit rate and NDCG of every method by window of time, with their intervals, see `backtest.window_metrics`."""
    k, windows = records[0]["k"], max(record["window"] for record in records)
    means: dict[str, float] = {}
    for record in records:
        means[record["model"]] = means.get(record["model"], 0.0) + record["ndcg"] / windows
    best = max(means, key=means.__getitem__)
    titles = (f"Hit rate of the first {k}", f"NDCG of the first {k}")
    figure = make_subplots(cols=2, horizontal_spacing=0.08, subplot_titles=titles)
    for model, style in model_styles(means, baselines).items():
        own = [record for record in records if record["model"] == model]
        for col, metric in enumerate(("hit_rate", "ndcg"), start=1):
            errors = {
                "array": [record[f"{metric}_high"] - record[metric] for record in own],
                "arrayminus": [record[metric] - record[f"{metric}_low"] for record in own],
            }
            figure.add_scatter(
                x=[record["from"] for record in own],
                y=[record[metric] for record in own],
                error_y={**errors, "symmetric": False, "thickness": 1, "width": 0},
                name=model,
                legendgroup=model,
                showlegend=col == 1,
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker_symbol=style.symbol,
                hovertemplate="%{y:.3f} from %{x}",
                row=1,
                col=col,
            )
    figure.update_xaxes(title="first day of the window").update_yaxes(rangemode="tozero")
    return figure.update_layout(
        template=TEMPLATE,
        title_text=f"{best} has the highest mean NDCG@{k} of {windows} windows: {means[best]:.3f}",
        legend_y=1.12,
        margin_t=140,
    )


def plot_second_stage(importance: Mapping[str, float], weights: Mapping[str, float]) -> go.Figure:
    """Draw how much the ranker's trees gain by each feature, and the weights of the fusion."""
    titles = ("Ranker: share of the gain of its splits", "Fusion: weights")
    figure = make_subplots(cols=2, horizontal_spacing=0.25, subplot_titles=titles)
    for col, values in enumerate((importance, weights), start=1):
        bars = {"x": [*values.values()], "y": [*values], "orientation": "h", "marker_color": "#4C78A8"}
        figure.add_bar(**bars, hovertemplate="%{y}: %{x:.3g}<extra></extra>", row=1, col=col)
    figure.update_yaxes(MODEL_AXIS)
    first = next(iter(importance), "nothing")
    return figure.update_layout(
        template=TEMPLATE,
        title_text=f"The second stage orders candidates by {first} above all",
        height=240 + 22 * len(importance),
        showlegend=False,
    )


def plot_hit_rates(curves: Mapping[str, tuple[npt.NDArray, npt.NDArray]], baselines: Styles) -> go.Figure:
    """Draw every model's hit rate by list length, see `ranking_metrics.hit_rate_curves`."""
    figure = go.Figure()
    for (model, style), (lengths, shares) in zip(model_styles(curves, baselines).items(), curves.values(), strict=True):
        figure.add_scatter(
            x=lengths,
            y=shares,
            mode="lines",
            name=model,
            line={"color": style.color, "dash": style.dash, "width": 2},
            hovertemplate="%{y:.1%} among the first %{x}",
        )
    figure.update_xaxes(title="First items of each list (log scale)", type="log")
    figure.update_yaxes(title="Share of the likes among them", rangemode="tozero")
    return figure.update_layout(template=TEMPLATE, title_text="Hit rate by list length", legend_y=1.1, margin_t=130)


def plot_roc(paired: PairedScores, baselines: Styles) -> go.Figure:
    """Draw the ROC curves of all models on the same rows, thinned to `ROC_POINTS` vertices each."""
    curves = [roc_curve(paired.labels, scores)[:2] for scores in paired.scores]
    recalls = [float(np.interp(TITLE_FPR, fpr, tpr)) for fpr, tpr in curves]
    best = int(np.argmax(recalls))
    figure = _square_plot(
        f"{paired.models[best]} ranks {recalls[best]:.0%} of the likes above all but {TITLE_FPR:.0%} of the dislikes",
        "Dislikes scored above the threshold (share)",
        "Likes scored above the threshold (share)",
        diagonal="chance",
    )
    figure.update_yaxes(range=[0, 1.005])
    for (model, style), (fpr, tpr) in zip(model_styles(paired.models, baselines).items(), curves, strict=True):
        kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, ROC_POINTS)).clip(max=len(fpr) - 1))
        figure.add_scatter(
            x=fpr[kept],
            y=tpr[kept],
            mode="lines",
            name=model,
            line={"color": style.color, "dash": style.dash, "width": 2},
            hovertemplate="%{y:.0%} of the likes, %{x:.0%} of the dislikes",
        )
    return figure


def plot_calibration(paired: PairedScores, baselines: Styles) -> go.Figure:
    """Draw reliability curves over score deciles, with the expected calibration error in the legend."""
    tables = [calibration_table(paired.labels, scores, CALIBRATION_BINS) for scores in paired.scores]
    gaps = [
        float(np.average((table["mean_score"] - table["share_of_likes"]).abs(), weights=table["rows"]))
        for table in tables
    ]
    best = int(np.argmin(gaps))
    figure = _square_plot(
        f"{paired.models[best]} is calibrated best: {100 * gaps[best]:.1f} percentage points off on average",
        "Mean score of the bin (probability of a like)",
        "Likes among the rows of the bin (share)",
        diagonal="perfect calibration",
    )
    for (model, style), table, gap in zip(model_styles(paired.models, baselines).items(), tables, gaps, strict=True):
        figure.add_scatter(
            x=table["mean_score"].to_list(),
            y=table["share_of_likes"].to_list(),
            customdata=table["rows"].to_list(),
            mode="lines+markers",
            name=f"{model} ({100 * gap:.1f} off)",
            line={"color": style.color, "dash": style.dash, "width": 1.5},
            marker={"symbol": style.symbol, "size": 8},
            hovertemplate="scored %{x:.3f}, liked %{y:.1%}, %{customdata:,} rows",
        )
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
    return (
        table.group_by("bin")
        .agg(mean_score=pl.col("score").mean(), share_of_likes=pl.col("label").mean(), rows=pl.len())
        .sort("bin")
        .drop("bin")
    )


def plot_training(**training_logs: pl.DataFrame) -> go.Figure:
    """Draw each model's losses and validation AUC by training rows seen; raise ValueError for a log without any AUC."""
    figure = make_subplots(cols=2, horizontal_spacing=0.1, subplot_titles=("Loss (thin: training)", "Validation AUC"))
    aucs = []
    for (model, log), style in zip(training_logs.items(), model_styles(training_logs, {}).values(), strict=True):
        if (kept := kept_validation(log)) is None:
            raise ValueError(
                f"training log of {model!r}: no validation AUC in {log.height} row(s). Train that model again."
            )
        aucs.append(f"{model} {kept:.3f}")
        thin = {"mode": "lines", "line": {"color": style.color, "width": 1}, "opacity": 0.55}
        thick = {
            "mode": "lines+markers",
            "line": {"color": style.color, "dash": style.dash, "width": 2},
            "marker": {"symbol": style.symbol, "size": 8},
        }
        for column, col, drawn in (
            ("train_loss", 1, thin),
            ("validation_loss", 1, thick),
            ("validation_auc", 2, thick),
        ):
            validated = log.drop_nulls(column)
            phase = "training" if column == "train_loss" else "validation"
            figure.add_scatter(
                x=validated["rows"].to_list(),
                y=validated[column].to_list(),
                name=model,
                legendgroup=model,
                showlegend=col == 2,
                hovertemplate=f"{phase} %{{y:.4f}} after %{{x:,}} rows",
                row=1,
                col=col,
                **drawn,
            )
    figure.update_xaxes(title="Training rows seen (log scale)", type="log", dtick=1)
    figure.update_yaxes(title="Log loss (nats per row)", col=1)
    title = "Validation AUC: " + ", ".join(aucs)
    return figure.update_layout(template=TEMPLATE, title_text=title, legend_y=1.1, margin_t=110)


def plot_retriever(training_log: Records) -> go.Figure:
    """Draw a retriever's loss, and hit rate and NDCG of the validation likes, by epoch."""
    titles = ("Loss of training (nats per event)", "Validation likes among the first ten")
    figure = _curves(
        training_log, "epoch", titles, {"loss": ("loss", 1), "hit_rate": ("hit rate", 2), "ndcg": ("NDCG", 2)}
    )
    best = max(training_log, key=itemgetter("hit_rate", "ndcg"))
    title = f"Best epoch: {best['epoch']}, hit rate {best['hit_rate']:.3f} and NDCG {best['ndcg']:.3f}"
    return figure.update_layout(title_text=title)


def plot_encoder(training_log: Records) -> go.Figure:
    """Draw an item encoder's losses and validation AUC by tuning step."""
    titles = ("Loss (nats per text)", "AUC of the validation pairs")
    columns = {"loss": ("training loss", 1), "validation_loss": ("validation loss", 1), "validation_auc": ("AUC", 2)}
    figure = _curves(training_log, "step", titles, columns)
    first, best = training_log[0], max(training_log, key=itemgetter("validation_auc"))
    title = f"Best step: {best['step']}, AUC {best['validation_auc']:.3f}, untuned {first['validation_auc']:.3f}"
    return figure.update_layout(title_text=title)


def _curves(
    training_log: Records, x: str, titles: tuple[str, str], columns: Mapping[str, tuple[str, int]]
) -> go.Figure:
    """Draw columns of a training log in two panels; `columns` maps each to its label and panel."""
    figure = make_subplots(cols=2, horizontal_spacing=0.1, subplot_titles=titles)
    for (column, (name, col)), style in zip(columns.items(), VARIANT_STYLES, strict=False):
        measured = [record for record in training_log if record[column] is not None]
        figure.add_scatter(
            x=[record[x] for record in measured],
            y=[record[column] for record in measured],
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={"symbol": style.symbol, "size": 6},
            name=name,
            row=1,
            col=col,
        )
    figure.update_xaxes(title=x.capitalize())
    figure.update_yaxes(rangemode="tozero", col=2)
    return figure.update_layout(template=TEMPLATE, legend_y=1.1, margin_t=110)


def error_bars(records: Records, metric: str) -> dict[str, Any] | None:
    """Return plotly's error bars of a metric's intervals; None where a record has no interval."""
    if any(record[f"{metric}_low"] is None for record in records):
        return None
    above = [record[f"{metric}_high"] - record[metric] for record in records]
    below = [record[metric] - record[f"{metric}_low"] for record in records]
    return {"array": above, "arrayminus": below, "thickness": 2, "width": 6}


def _dot(metric: str, record: Mapping[str, Any], style: Style) -> go.Scatter:
    return go.Scatter(
        x=[record[metric]],
        y=[record["model"]],
        error_x=error_bars([record], metric),
        mode="markers+text",
        text=[f"{record[metric]:.3f}"],
        textposition="top center",
        marker={"color": style.color, "symbol": style.symbol, "size": 12},
        name=record["model"],
        hovertemplate=f"%{{x:.4f}} [{record[f'{metric}_low']:.4f}, {record[f'{metric}_high']:.4f}]",
    )


def _square_plot(title: str, x_title: str, y_title: str, diagonal: str) -> go.Figure:
    x_axis = {"title": x_title, "range": [0, 1], "constrain": "domain"}
    y_axis = {"title": y_title, "range": [0, 1], "scaleanchor": "x", "constrain": "domain"}
    beside = {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"}  # above, it would cover the title
    figure = go.Figure(
        layout={
            "template": TEMPLATE,
            "title_text": title,
            "xaxis": x_axis,
            "yaxis": y_axis,
            "height": 560,
            "legend": beside,
        }
    )
    line = {"color": INK, "width": 1, "dash": "dot"}
    return figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name=diagonal, line=line, hoverinfo="skip")
