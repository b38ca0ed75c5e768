"""The black_box pipeline."""

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.black_box import nodes
from reclora_kedro.pipelines.names import prompt_template


def create_pipeline(**kwargs: object) -> Pipeline:
    """From the lens, the log and an API to the scores of its LLM with and without hints, beside other models."""
    asked = [
        "black_box_llm",
        "black_box_answers",
        "black_box_records",
        prompt_template("black_box"),
        "hint_templates",
    ]
    return Pipeline(
        [
            Node(
                nodes.draw_questions,
                inputs=["learning_questions", "test_questions", "params:black_box"],
                outputs="black_box_questions",
                name="draw_questions",
            ),
            Node(
                nodes.describe_questions,
                inputs=["lens", "log", "black_box_questions", "params:history", "params:black_box", "params:engine"],
                outputs="black_box_records",
                name="describe_questions",
            ),
            Node(
                nodes.search_hints,
                inputs=[*asked, "params:black_box", "params:prompt"],
                outputs=["black_box_hint", "black_box_trials"],
                name="search_hints",
            ),
            Node(
                nodes.answer_questions,
                inputs=[*asked, "black_box_hint", "params:black_box", "params:prompt"],
                outputs=["black_box_scores", "black_box_usage"],
                name="answer_questions",
            ),
            Node(
                nodes.evaluate,
                inputs=["scores", "black_box_scores", "test_questions", "params:black_box", "params:bootstrap"],
                outputs=["black_box_metrics", "black_box_comparisons"],
                name="evaluate",
            ),
            Node(
                nodes.show_results,
                inputs=["black_box_metrics", "black_box_comparisons", "black_box_trials", "black_box_usage"],
                outputs=None,
                name="show_results",
            ),
        ],
        namespace="black_box",
        prefix_datasets_with_namespace=False,
    )
