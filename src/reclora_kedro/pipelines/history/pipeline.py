"""The history pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.configured_names import history_names
from reclora_kedro.pipelines.history.nodes import (
    assemble_short_histories,
    collect_samples,
    embed_items,
    select_prompt_rows,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the canonical tables to the split, the sequences, the items' embeddings and the prompts' short histories."""
    return Pipeline(
        [
            # Independent nodes run in the order of their names: this one, which refuses a log that cannot be split,
            # comes before embed_items, which takes minutes and writes a file.
            Node(
                collect_samples,
                inputs=["interactions", "items", "users", "params:history"],
                outputs=["sequences", "samples"],
                name="collect_samples",
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
                assemble_short_histories,
                inputs=["prompt_rows", "samples", "sequences", "item_embeddings", "params:history"],
                outputs={name: f"{name}.short_history" for name in history_names()},
                name="assemble_short_histories",
            ),
        ]
    )
