"""The history pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.history.nodes import (
    assemble_histories,
    embed_items,
    select_prompt_rows,
    split_interactions,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the canonical tables to the split, the sequences, and each sample's long and short history."""
    return Pipeline(
        [
            Node(
                split_interactions,
                inputs=["interactions", "items", "users", "params:history"],
                outputs=["sequences", "samples"],
                name="split_interactions",
            ),
            Node(
                select_prompt_rows,
                inputs=["samples", "params:history"],
                outputs="prompt_rows",
                name="select_prompt_rows",
            ),
            Node(
                embed_items,
                inputs=["base_llm", "items", "params:history"],
                outputs="item_embeddings",
                name="embed_items",
                tags=["gpu"],
            ),
            Node(
                assemble_histories,
                inputs=["samples", "sequences", "item_embeddings", "params:history"],
                outputs=["long_history", "short_history"],
                name="assemble_histories",
            ),
        ]
    )
