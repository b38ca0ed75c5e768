"""Black box: an LLM behind an API answers test rows, with hints of the lens and without them; on request."""

from kedro.pipeline import Node, Pipeline

from reclora_extras.black_box import nodes
from reclora_extras.black_box.checks import checks
from reclora_kedro.pipelines.names import PipelineNames

__all__ = ["checks", "create_pipeline"]


def create_pipeline(names: PipelineNames) -> Pipeline:
    """From the lens, the log and an API to the scores of its LLM with and without hints, beside other models."""
    results = ["black_box_metrics", "black_box_comparisons"]
    return Pipeline(
        [
            Node(
                nodes.describe_questions,
                inputs=[
                    "lens",
                    "log",
                    "learning_questions",
                    "test_questions",
                    "params:history",
                    "params:black_box",
                    "params:engine",
                ],
                outputs="black_box_records",
                name="describe_questions",
            ),
            Node(
                nodes.ask,
                inputs=[
                    "black_box_llm",
                    "black_box_answers",
                    "black_box_records",
                    f"{names.parameters['black_box']['template']}.prompt_template",
                    "hint_templates",
                    "params:black_box",
                    "params:prompt",
                ],
                outputs=["black_box_trials", "black_box_scores", "black_box_usage"],
                name="ask",
            ),
            Node(
                nodes.evaluate,
                inputs=["scores", "black_box_scores", "test_questions", "params:black_box", "params:bootstrap"],
                outputs=results,
                name="evaluate",
            ),
            Node(
                nodes.show_results,
                inputs=[*results, "black_box_trials", "black_box_usage"],
                outputs=None,
                name="show_results",
            ),
        ],
        namespace="black_box",
        prefix_datasets_with_namespace=False,
    )
