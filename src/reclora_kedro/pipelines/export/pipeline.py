"""The export pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.export import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make a folder of users' LoRAs, and their table, from the lens and one variant's adapter."""
    variant = names.variant_of("export")
    adapter = f"{variant}.adapter"
    return Pipeline(
        [
            Node(
                nodes.compute_user_states,
                inputs=[adapter, "log", "lens", "params:export"],
                outputs="user_states",
                name="compute_user_states",
            ),
            Node(
                nodes.export_adapters,
                inputs=["base_llm", adapter, "user_states", "log", f"params:finetuning.variants.{variant}"],
                outputs=["user_adapters", "exported_adapters"],
                name="export_adapters",
                tags=["gpu"],
            ),
        ],
        namespace="export",
        prefix_datasets_with_namespace=False,
    )
