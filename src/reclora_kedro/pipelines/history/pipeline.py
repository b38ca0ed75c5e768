"""The history pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.history import nodes
from reclora_kedro.pipelines.names import history_names, item_encoders


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the canonical tables to the log, the items' embeddings, and what prompts read of a user's past."""
    return Pipeline(
        [
            Node(
                nodes.build_log,
                inputs=["interactions", "items", "users", "params:history", "params:engine"],
                outputs="log_without_embeddings",
                name="build_log",
            ),
            Node(
                nodes.select_prompt_rows,
                inputs=["log_without_embeddings", "params:history"],
                outputs="prompt_rows",
                name="select_prompt_rows",
            ),
            Node(
                nodes.embed_items,
                inputs=["items", "params:history", "params:engine", *item_encoders()],
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
            Node(
                nodes.assemble_short_histories,
                inputs=["log", "prompt_rows", "params:history"],
                outputs={name: f"{name}.short_history" for name in history_names()},
                name="assemble_short_histories",
            ),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )
