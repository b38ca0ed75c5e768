"""The study pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.study import nodes


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make a table, figures and a report from finished cells of the grid.

    The command `kedro study` runs the cells, each the default flow, before the nodes.
    """
    return Pipeline(
        [
            Node(
                nodes.tabulate_cells,
                ["study_cells", "study_searches", "params:study"],
                ["study_results", "study_comparisons", "study_trials"],
                name="tabulate_cells",
            ),
            Node(nodes.plot_axes, "study_results", "study_axes_figure", name="plot_axes"),
            Node(nodes.plot_frontier, "study_results", "study_frontier_figure", name="plot_frontier"),
            Node(
                nodes.write_study,
                ["study_results", "study_axes_figure", "study_frontier_figure", "study_grids"],
                "study_report",
                name="write_study",
            ),
            Node(nodes.show_study, ["study_results", "study_report"], outputs=None, name="show_study"),
        ],
        namespace="study",
        prefix_datasets_with_namespace=False,
    )
