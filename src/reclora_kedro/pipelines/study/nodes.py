"""Nodes of the study pipeline."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from kedro_provenance.cells import CellRunner
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.study import report, results
from reclora_kedro.study.config import StudyConfig
from reclora_kedro.study.grid import load_grids, plan_cells

Grids = dict[str, Callable[[], Any]]
Records = list[dict[str, Any]]


def run_cells(cell_runner: CellRunner, study_grids: Grids, study: StudyConfig) -> tuple[Records, Records]:
    """The cells of the chosen grids: their metrics and costs, and their differences of models, as long tables."""
    cells = plan_cells(load_grids(study.grid, study_grids), study.seeds, cell_runner.parameters)
    runs = cell_runner.run(cells, results.result_of, study.workers)
    return results.tabulate(cells, runs, study.models), results.tabulate_pairs(cells, runs, study.models)


def write_study(study_results: Records, axes: go.Figure, frontier: go.Figure, study_grids: Grids) -> str:
    """Everything above as one HTML page."""
    grids = load_grids(results.grids_of(study_results), study_grids)
    titles = {name: grid.title for name, grid in grids.items()}
    return report.render_study(study_results, titles, {"axes": axes, "frontier": frontier})


def show_study(study_results: Records, study_report: str) -> None:
    """Print the results; waits for the report, so that they stand at the end of a run's output."""
    show(report.study_tables(study_results))
