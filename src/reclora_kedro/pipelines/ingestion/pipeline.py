"""The ingestion pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables, show_ingestion
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step

RAW_TABLES = ("raw_interactions", "raw_items", "raw_item_texts", "raw_users")


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Clean raw tables, of any dataset in the catalog, into the canonical ones."""
    return step(
        "ingestion",
        node(
            build_canonical_tables,
            [*RAW_TABLES, "params:ingestion", "params:engine", "users_to_drop"],
            ["interactions", "items", "users", "ingestion_report"],
        ),
        node(show_ingestion, "ingestion_report", None),
    )
