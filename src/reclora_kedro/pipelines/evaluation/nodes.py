"""Nodes of the evaluation step."""

from typing import Any

import plotly.graph_objects as go
import polars as pl
from rich.console import Console

from reclora_kedro.evaluation import figures, metrics, report, significance
from reclora_kedro.evaluation.config import EvaluationConfig
from reclora_kedro.evaluation.scores import align_scores

Records = list[dict[str, Any]]


def compute_metrics(scores: pl.DataFrame, config: EvaluationConfig) -> Records:
    """AUC with its interval, log loss and accuracy of every model."""
    return metrics.compute_metrics(align_scores(scores), config.confidence)


def compare_models(scores: pl.DataFrame, config: EvaluationConfig) -> Records:
    """Paired AUC difference of every pair of models."""
    return significance.compare_models(align_scores(scores), config.confidence)


def plot_auc(metrics: Records, config: EvaluationConfig) -> go.Figure:
    """AUC of every model with its interval."""
    return figures.plot_auc(metrics, config.confidence)


def plot_roc(scores: pl.DataFrame) -> go.Figure:
    """ROC curve of every model."""
    return figures.plot_roc(align_scores(scores))


def plot_calibration(scores: pl.DataFrame, config: EvaluationConfig) -> go.Figure:
    """Share of likes against mean score, in quantile bins."""
    return figures.plot_calibration(align_scores(scores), config.calibration_bins)


def plot_training(**training_logs: pl.DataFrame) -> go.Figure:
    """Training curves, by model name."""
    return figures.plot_training(training_logs)


def write_report(
    metrics: Records,
    comparisons: Records,
    ingestion_report: Records,
    config: EvaluationConfig,
    **named_figures: go.Figure,
) -> str:
    """Everything above as one HTML page."""
    shown = {"auc": figures.plot_auc(metrics, config.confidence), **named_figures}
    return report.render_report(metrics, comparisons, ingestion_report, shown, config.confidence)


def show_results(metrics: Records, comparisons: Records, config: EvaluationConfig, evaluation_report: str) -> None:
    """Print the results; waits for the report, so that they stand at the end of a run's output."""
    Console().print(report.results_tables(metrics, comparisons, config.confidence))
