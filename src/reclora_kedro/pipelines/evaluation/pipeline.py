"""The evaluation pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.evaluation import attribution
from reclora_kedro.pipelines.evaluation import nodes
from reclora_kedro.pipelines.names import PipelineNames

BASELINES = "params:scoring.baselines"
"""By their names, the recipe of a node counts the code of these baselines only."""


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make metrics, segments, figures and the report from the stored scores and training logs."""
    training_logs = {"lens": "lens_training_log"} | {name: f"{name}.training_log" for name in names.variants}
    permuted = {"lens": "lens_permuted_scores"} | {name: f"{name}.permuted_scores" for name in names.variants}
    choice = {"candidate_choice": "candidate_choice"} if names.report_reads_choice else {}
    found = {"candidate_metrics": "candidate_metrics"} | choice if choice else {}
    results = {name: name for name in ("metrics", "comparisons", "attribution")}
    return Pipeline(
        [
            Node(
                nodes.evaluate_models,
                {name: name for name in ("scores", "log", "lens_metrics")}
                | {"bootstrap": "params:bootstrap"}
                | {name: f"{name}_scores" for name in names.baselines},
                ["metrics", "comparisons"],
                name="evaluate_models",
            ),
            Node(nodes.compute_segments, ["scores", "log"], "segments", name="compute_segments"),
            Node(
                attribution.attribute,
                {"scores": "scores", "bootstrap": "params:bootstrap"} | permuted,
                "attribution",
                name="attribute",
            ),
            Node(nodes.plot_auc, ["metrics", BASELINES], "auc_figure", name="plot_auc"),
            Node(nodes.plot_roc, ["scores", BASELINES], "roc_figure", name="plot_roc"),
            Node(nodes.plot_calibration, ["scores", BASELINES], "calibration_figure", name="plot_calibration"),
            Node(nodes.plot_training, training_logs, "training_figure", name="plot_training"),
            Node(
                nodes.write_report,
                results
                | {name: name for name in ("segments", "ingestion_report", "history_report")}
                | {name: name for name in ("negatives_report", "training_report")}
                | {name: f"{name}_figure" for name in ("auc", "roc", "calibration", "training")}
                | {"allow_mixed": "params:allow_mixed", "baselines": BASELINES}
                | found
                | ({"shortlist_report": "shortlist_report"} if choice else {}),
                "evaluation_report",
                name="write_report",
            ),
            Node(
                nodes.show_results,
                results | {"baselines": BASELINES, "evaluation_report": "evaluation_report"} | found,
                outputs=None,
                name="show_results",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
