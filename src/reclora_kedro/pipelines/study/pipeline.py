"""The study pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.study import nodes
from reclora_kedro.pipelines.wiring import node, step
from reclora_kedro.study import figures


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make a table, figures and a report from finished cells of the grid.

    The command `kedro study` runs the cells, each the default flow, before the nodes.
    """
    return step(
        "study",
        node(
            nodes.tabulate_cells,
            ["study_cells", "study_searches", "params:study"],
            ["study_results", "study_comparisons", "study_trials"],
        ),
        node(figures.plot_axes, "study_results", "study_axes_figure"),
        node(figures.plot_frontier, "study_results", "study_frontier_figure"),
        node(
            nodes.write_study,
            ["study_results", "study_axes_figure", "study_frontier_figure", "study_grids"],
            "study_report",
        ),
        node(nodes.show_study, ["study_results", "study_report"], None),
    )
