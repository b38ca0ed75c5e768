"""The encoders pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.encoders import nodes
from reclora_kedro.pipelines.names import TUNED_ENCODER, PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Tune an encoder on the log without embeddings."""
    tuned = "base_llm" if names.parameters["item_encoder"]["base"] == "base_llm" else "sentence_encoder"
    return Pipeline(
        [
            Node(
                nodes.tune_item_encoder,
                inputs=["log_without_embeddings", tuned, "params:item_encoder", "params:history"],
                outputs=[TUNED_ENCODER, "encoder_training_log"],
                name="tune_item_encoder",
                tags=["gpu"],
            ),
            Node(nodes.plot_encoder, "encoder_training_log", "encoder_curve", name="plot_encoder"),
            Node(nodes.show_encoder, "encoder_training_log", outputs=None, name="show_encoder"),
        ],
        namespace="history.encoders",  # its nodes run among those of the history step
        prefix_datasets_with_namespace=False,
    )
