"""The history pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.history import nodes
from reclora_kedro.pipelines.names import PipelineNames


def create_pipeline(names: PipelineNames) -> Pipeline:
    """From the canonical tables to the log with vectors of its items, and the questions for the LLM."""
    quality = ["base_llm", "params:base_model", "params:prompt"]
    by_quality = quality if names.parameters["few_shot"]["selection"] == "quality" else []
    return Pipeline(
        [
            Node(
                nodes.build_log,
                inputs=["interactions", "items", "users", "params:history", "params:engine"],
                outputs=["log_without_embeddings", "history_report"],
                name="build_log",
            ),
            Node(
                nodes.check_negatives,
                inputs=["log_without_embeddings", "params:history"],
                outputs="negatives_report",
                name="check_negatives",
            ),
            Node(
                nodes.choose_learning_questions if by_quality else nodes.draw_learning_questions,
                inputs=["log_without_embeddings", "params:history", "params:few_shot", *by_quality],
                outputs="learning_questions",
                name="draw_learning_questions",
                tags=["gpu"] if by_quality else [],
            ),
            Node(
                nodes.draw_test_questions,
                inputs=["log_without_embeddings", "params:history"],
                outputs="test_questions",
                name="draw_test_questions",
            ),
            Node(
                nodes.embed_items,
                inputs=["items", "params:history", "params:engine", *names.item_encoders],
                outputs="item_embeddings",
                name="embed_items",
                tags=["gpu"],
            ),
            Node(
                nodes.assemble_log,
                inputs=["log_without_embeddings", "item_embeddings"],
                outputs="log",
                name="assemble_log",
            ),
            Node(
                nodes.check_retrieval,
                inputs=["log", "params:history"],
                outputs="retrieval_report",
                name="check_retrieval",
            ),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )
