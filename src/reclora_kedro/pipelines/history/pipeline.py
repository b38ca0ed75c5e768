"""The history pipeline."""

from kedro.pipeline import Pipeline

from reclora_kedro.pipelines.history import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Build the log with item vectors, and the questions for the LLM, from the canonical tables."""
    return step(
        "history",
        node(
            nodes.build_log,
            ["interactions", "items", "users", "params:history", "params:ingestion", "params:engine"],
            ["log_without_embeddings", "history_report"],
        ),
        node(nodes.check_negatives, ["log_without_embeddings", "params:history"], "negatives_report"),
        node(nodes.draw_learning_questions, ["log_without_embeddings", "params:history"], "learning_questions"),
        node(nodes.draw_test_questions, ["log_without_embeddings", "params:history"], "test_questions"),
        node(
            nodes.embed_items,
            ["items", "params:history", "params:engine", *names.item_encoders],
            "item_embeddings",
            tags=["gpu"],
        ),
        node(nodes.assemble_log, ["log_without_embeddings", "item_embeddings"], "log"),
        node(nodes.check_retrieval, ["log", "params:history"], "retrieval_report"),
        node(nodes.show_history, "history_report", None),
    )
