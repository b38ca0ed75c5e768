"""Wiring of the export pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import exported_variant
from reclora_kedro.pipelines.export.nodes import compute_user_states, export_adapters


def create_pipeline(**kwargs: object) -> Pipeline:
    """The lens and one variant's adapter in; a folder of users' LoRAs and their table out."""
    adapter = f"{exported_variant()}.adapter"
    return Pipeline(
        [
            Node(
                compute_user_states,
                inputs=[
                    adapter,
                    "users",
                    "sequences",
                    "item_embeddings",
                    "lens_config",
                    "lens_weights",
                    "params:export",
                ],
                outputs="user_states",
                name="compute_user_states",
            ),
            Node(
                export_adapters,
                inputs=["base_llm", adapter, "user_states", "users"],
                outputs=["user_adapters", "exported_adapters"],
                name="export_adapters",
                tags=["gpu"],
            ),
        ]
    )
