"""The lens pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.lens import nodes
from reclora_kedro.pipelines.names import lens_training_rows


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the log to the lens, its states and scores of the prompts' rows, and the states that gates learn from."""
    # A lens of all rows does not read which of them the LLM sees: a study with other ones need not train it again.
    few_shot = ["prompt_rows"] if lens_training_rows() == "few_shot" else []
    return Pipeline(
        [
            Node(
                nodes.train_lens,
                inputs=["log", "params:lens", "params:engine", *few_shot],
                outputs=["lens", "lens_training_log"],
                name="train_lens",
            ),
            Node(
                nodes.measure_lens,
                inputs=["lens", "log", "params:bootstrap"],
                outputs="lens_metrics",
                name="measure_lens",
            ),
            Node(
                nodes.compute_lens_states,
                inputs=["lens", "log", "prompt_rows", "params:engine"],
                outputs=["lens_states", "lens_scores"],
                name="compute_lens_states",
            ),
            Node(
                nodes.compute_few_shot_states,
                inputs=[
                    "lens",
                    "log",
                    "prompt_rows",
                    "lens_states",
                    "lens_training_log",
                    "params:few_shot",
                ],
                outputs=["few_shot_states", "few_shot_lens_report"],
                name="compute_few_shot_states",
            ),
        ],
        namespace="lens",
        prefix_datasets_with_namespace=False,
    )
