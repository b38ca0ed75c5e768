"""Measure what has drifted since the current lens was trained; on request, or with each update."""

from kedro.pipeline import Pipeline

from kedro_provenance.project import requested_pipelines
from reclora_extras.monitoring import nodes, report
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, params, shown, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """The newest log and the current model's models in; a table of periods with alarms, a figure and a page out."""
    # A choice from before this run lasts over updates, and need not be of what these have read since.
    choice = "candidate_choice" if "recommendation" in (requested_pipelines() or ()) else "champion.candidate_choice"
    retriever = [f"champion.{name}" for name in names.retriever]
    read = ["log", "champion.lens", choice, *params("recommendation", "monitoring")]
    return step(
        "monitoring",
        node(nodes.measure_drift, read + retriever, "drift"),
        node(report.plot_drift, ["drift", "params:monitoring"], "drift_figure"),
        node(report.write_drift_report, ["drift", "drift_figure", "params:monitoring"], "drift_report"),
        shown("show_drift", report.drift_table, "drift"),
    )
