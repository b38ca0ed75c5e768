"""Nodes of the evaluation step."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.text import Text

from reclora_kedro.baselines.registry import attributes
from reclora_kedro.evaluation import figures, metrics, report, segments
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Comparison, InputEffect, ModelMetrics, Record, SegmentAuc
from reclora_kedro.evaluation.scores import align_scores
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.chosen import StoredChoice, labels, stored_choice
from reclora_kedro.recommendation.ranking_metrics import RankingRow
from reclora_kedro.recommendation.ranking_report import finding_verdict, methods_shown
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    import plotly.graph_objects as go


def evaluate_models(
    scores: pl.DataFrame,
    log: InteractionLog,
    lens_metrics: list[ModelMetrics],
    bootstrap: Bootstrap,
    **tables: pl.DataFrame,
) -> tuple[list[ModelMetrics], list[Comparison]]:
    """Return every model's metrics, on the whole test split, too, where it scored that, and every pair's difference."""
    records, comparisons = metrics.evaluate_models(scores, bootstrap)
    records = metrics.with_constant(records, float(log.samples_in("train", "label")["label"].to_numpy().mean()))
    return metrics.with_split_auc(records, log.samples_in("test"), lens_metrics, tables), comparisons


def compute_segments(scores: pl.DataFrame, log: InteractionLog) -> list[SegmentAuc]:
    """Return the AUC of every model for cold items, new users, and by length of history and popularity."""
    paired, sequences = align_scores(scores), log.sequences
    parts = segments.segment_rows(paired, log.samples, sequences.offsets, sequences.item_index)
    return segments.compute_segments(paired, parts)


def plot_auc(metrics: list[ModelMetrics], baselines: list[str]) -> go.Figure:
    """Plot the AUC of every model with its interval."""
    return figures.plot_auc(metrics, attributes("STYLE", baselines))


def plot_scores(scores: pl.DataFrame, baselines: list[str]) -> tuple[go.Figure, go.Figure]:
    """Plot the ROC curve of every model, and the share of likes against the mean score, in quantile bins."""
    paired, styles = align_scores(scores), attributes("STYLE", baselines)
    return figures.plot_roc(paired, styles), figures.plot_calibration(paired, styles)


def write_report(
    allow_mixed: bool,
    baselines: list[str],
    candidate_choice: StoredChoice | None = None,
    candidate_metrics: list[RankingRow] | None = None,
    shortlist_report: Record | None = None,
    **stored: Any,
) -> str:
    """Render all results as one HTML page, which opens with a visitor's titles and with how well methods find items.

    What is `stored` are the tables of `report.Results`, and figures.
    """
    results = report.Results(**{each.name: stored.pop(each.name) for each in fields(report.Results)})
    notes, found = attributes("NOTE", baselines), None
    chosen = None if candidate_choice is None else stored_choice(candidate_choice)
    if chosen and chosen.stage != SecondStage():
        stored["second_stage"] = chosen.stage.figure()
    if chosen and shortlist_report is not None:
        found = report.Recommended(
            example=shortlist_report.get("example"),
            methods=methods_shown(candidate_metrics or [], chosen.name),
            chosen=chosen.name,
            labels=labels(chosen.sources),
            reason=chosen.reason,
        )
    return report.render_report(results, stored, notes, allow_mixed, found)


def show_results(
    metrics: list[ModelMetrics],
    comparisons: list[Comparison],
    attribution: list[InputEffect],
    baselines: list[str],
    evaluation_report: str,
    candidate_metrics: list[RankingRow] | None = None,
    candidate_choice: StoredChoice | None = None,
) -> None:
    """Print how well models predict, and the verdict; the unused report as an input puts this node after it."""
    labels = attributes("LABEL", baselines)
    show(report.results_tables(metrics, comparisons, attribution, labels))
    if candidate_choice is not None and candidate_metrics:
        show(Text(finding_verdict(candidate_metrics, stored_choice(candidate_choice).name), style="bold"))
