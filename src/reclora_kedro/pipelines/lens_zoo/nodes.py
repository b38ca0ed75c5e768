"""Nodes of the lens zoo."""

from typing import Any

import plotly.graph_objects as go

from reclora_kedro.evaluation import figures, report
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens import zoo
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.zoo import LensZooConfig

Records = list[dict[str, Any]]


def train_zoo_lens(
    log: InteractionLog,
    lens: LensConfig,
    lens_zoo: LensZooConfig,
    changes: dict[str, Any],
) -> Records:
    """What one lens of the zoo reaches, one record per seed."""
    return zoo.train_over_seeds(log, zoo.zoo_lens(lens, changes), lens_zoo.seeds)


def compare_lenses(**runs: Records) -> Records:
    """Mean and spread over the seeds of every lens."""
    return zoo.compare_lenses(runs)


def plot_lenses(comparison: Records) -> go.Figure:
    """Every lens's validation and test AUC, with their spread."""
    return figures.plot_lenses(comparison)


def show_lenses(comparison: Records) -> None:
    """Print the comparison."""
    show(report.lens_table(comparison))
