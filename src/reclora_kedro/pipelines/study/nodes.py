"""Nodes of the study pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reclora_kedro.evaluation.records import Records
from reclora_kedro.study import results
from reclora_kedro.study.config import StudyConfig
from reclora_kedro.study.grid import load_grids
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    import plotly.graph_objects as go

Grids = dict[str, Callable[[], Any]]


def tabulate_cells(
    study_cells: Records, study_searches: dict[str, Records], study: StudyConfig
) -> tuple[Records, Records, Records]:
    """Tabulate metrics and costs of the finished cells, differences of models, and trials, as long tables."""
    studied = [results.StudiedCell.from_json(record) for record in study_cells]
    cells, runs = [each.cell for each in studied], [each.result for each in studied]
    trials = [trial for trials in study_searches.values() for trial in trials]
    return results.tabulate(cells, runs, study.models), results.tabulate_pairs(cells, runs, study.models), trials


def write_study(study_results: Records, axes: go.Figure, frontier: go.Figure, study_grids: Grids) -> str:
    """Render the results as one HTML page."""
    grids = load_grids([grid.name for grid in results.grids_of(study_results)], study_grids)
    titles = {name: grid.title for name, grid in grids.items()}
    return results.render_study(study_results, titles, {"axes": axes, "frontier": frontier})


def show_study(study_results: Records, study_report: str) -> None:
    """Print the results; the unused report as an input puts this node after it."""
    show(results.study_tables(study_results))
