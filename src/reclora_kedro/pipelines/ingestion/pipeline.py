"""The ingestion pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables, show_ingestion
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Clean raw tables, of any dataset in the catalog, into the canonical ones."""
    return Pipeline(
        [
            Node(
                build_canonical_tables,
                inputs=[
                    "raw_interactions",
                    "raw_items",
                    "raw_item_texts",
                    "raw_users",
                    "params:ingestion",
                    "params:engine",
                    "users_to_drop",
                ],
                outputs=["interactions", "items", "users", "ingestion_report"],
                name="build_canonical_tables",
            ),
            Node(show_ingestion, inputs="ingestion_report", outputs=None, name="show_ingestion"),
        ],
        namespace="ingestion",
        prefix_datasets_with_namespace=False,
    )
