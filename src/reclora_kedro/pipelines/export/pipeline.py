"""The export pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.export import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Make a folder of users' LoRAs, and their table, from the lens and one variant's adapter."""
    variant = names.variant_of("export")
    adapter = f"{variant}.adapter"
    return step(
        "export",
        node(nodes.compute_user_states, [adapter, "log", "lens", "params:export"], "user_states"),
        node(
            nodes.export_adapters,
            ["base_llm", adapter, "user_states", "log", f"params:finetuning.variants.{variant}"],
            ["user_adapters", "exported_adapters"],
            tags=["gpu"],
        ),
    )
