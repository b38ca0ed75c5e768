"""The encoders pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.evaluation import figures, report
from reclora_kedro.pipelines.encoders import nodes
from reclora_kedro.pipelines.names import TUNED_ENCODER, PipelineNames
from reclora_kedro.pipelines.wiring import node, shown, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Tune an encoder on the log without embeddings."""
    tuned = "base_llm" if names.parameters["item_encoder"]["base"] == "base_llm" else "sentence_encoder"
    return step(
        "history.encoders",
        node(
            nodes.tune_item_encoder,
            ["log_without_embeddings", tuned, "params:item_encoder", "params:history"],
            [TUNED_ENCODER, "encoder_training_log"],
            tags=["gpu"],
        ),
        node(figures.plot_encoder, "encoder_training_log", "encoder_curve"),
        shown("show_encoder", report.encoder_table, "encoder_training_log"),
    )
