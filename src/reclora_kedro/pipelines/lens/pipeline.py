"""Wiring of the lens step."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.lens.nodes import compute_lens_states, train_lens


def create_pipeline(**kwargs: object) -> Pipeline:
    """Samples and sequences in; the lens, its training log, and its states and scores of the prompt rows out."""
    return Pipeline(
        [
            Node(
                train_lens,
                inputs=["samples", "sequences", "item_embeddings", "items", "users", "params:lens"],
                outputs=["lens_config", "lens_weights", "lens_training_log"],
                name="train_lens",
            ),
            Node(
                compute_lens_states,
                inputs=[
                    "samples",
                    "sequences",
                    "item_embeddings",
                    "items",
                    "prompt_rows",
                    "lens_config",
                    "lens_weights",
                    "lens_training_log",
                    "params:few_shot",
                ],
                outputs=["lens_states", "lens_scores", "few_shot_lens_report"],
                name="compute_lens_states",
            ),
        ]
    )
