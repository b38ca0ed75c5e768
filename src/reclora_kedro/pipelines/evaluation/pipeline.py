"""The evaluation pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.evaluation import attribution, figures
from reclora_kedro.pipelines.evaluation import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import named, node, step

BASELINES = "params:scoring.baselines"  # by their names, the recipe of a node counts the code of these baselines only


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make metrics, segments, figures and the report from the stored scores and training logs."""
    training_logs = {"lens": "lens_training_log"} | {name: f"{name}.training_log" for name in names.variants}
    of_llms = {name: f"{name}.permuted_scores" for name in ("untrained", *names.variants)}
    permuted = {"lens": "lens_permuted_scores"} | of_llms
    found = named("candidate_metrics", "candidate_choice") if names.report_reads_choice else {}
    results = named("metrics", "comparisons", "attribution", baselines=BASELINES)
    reports = [f"{name}_report" for name in ("ingestion", "history", "negatives", "training")]
    return step(
        "evaluation",
        node(
            nodes.evaluate_models,
            named("scores", "log", "lens_metrics", bootstrap="params:bootstrap")
            | {name: f"{name}_scores" for name in names.baselines},
            ["metrics", "comparisons"],
        ),
        node(nodes.compute_segments, ["scores", "log"], "segments"),
        node(attribution.attribute, named("scores", bootstrap="params:bootstrap") | permuted, "attribution"),
        node(nodes.plot_auc, ["metrics", BASELINES], "auc_figure"),
        node(nodes.plot_scores, ["scores", BASELINES], ["roc_figure", "calibration_figure"]),
        node(figures.plot_training, training_logs, "training_figure"),
        node(
            nodes.write_report,
            results
            | named("segments", *reports, allow_mixed="params:allow_mixed")
            | {name: f"{name}_figure" for name in ("auc", "roc", "calibration", "training")}
            | (found and found | named("shortlist_report")),
            "evaluation_report",
        ),
        node(nodes.show_results, results | named("evaluation_report") | found, None),
    )
