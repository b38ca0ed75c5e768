"""Monitoring, on request or with each update: what drifts since the current lens was trained."""

from kedro.pipeline import Node, Pipeline

from kedro_provenance.session_parameters import requested_pipelines
from reclora_extras.monitoring import nodes
from reclora_kedro.pipelines.names import PipelineNames

__all__ = ["create_pipeline"]


def create_pipeline(names: PipelineNames) -> Pipeline:
    """The newest log and the current model's models in; a table of periods with alarms, a figure and a page out."""
    # A choice from before this run lasts over updates, and need not be of what these have read since.
    choice = "candidate_choice" if "recommendation" in (requested_pipelines() or ()) else "champion.candidate_choice"
    retriever = [f"champion.{name}" for name in names.retriever]
    return Pipeline(
        [
            Node(
                nodes.measure_drift,
                inputs=[
                    "log",
                    "champion.lens",
                    choice,
                    "params:recommendation",
                    "params:monitoring",
                    *retriever,
                ],
                outputs="drift",
                name="measure_drift",
            ),
            Node(nodes.plot_drift, inputs=["drift", "params:monitoring"], outputs="drift_figure", name="plot_drift"),
            Node(
                nodes.write_drift_report,
                inputs=["drift", "drift_figure", "params:monitoring"],
                outputs="drift_report",
                name="write_drift_report",
            ),
            Node(nodes.show_drift, inputs="drift", outputs=None, name="show_drift"),
        ],
        namespace="monitoring",
        prefix_datasets_with_namespace=False,
    )
