"""Ask an LLM behind an API about test rows, with and without hints of the lens; on request."""

from kedro.pipeline import Node, Pipeline

from reclora_extras.black_box import nodes
from reclora_extras.black_box.checks import checks
from reclora_kedro.pipelines.names import PipelineNames

__all__ = ["checks", "create_pipeline"]


ASKED = ("black_box_llm", "black_box_answers", "black_box_records")
SETTINGS = ("params:black_box", "params:prompt")

NEEDS_LLM = True


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Score test rows by the LLM of an API, with and without hints of the lens, and compare with other models.

    Where ``black_box.knowledge`` is set, a small language model writes what the LLM is told, too.
    """
    results, template = ["black_box_metrics", "black_box_comparisons"], names.parameters["black_box"]["template"]
    parts = [
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
            inputs=[*ASKED, f"{template}.prompt_template", "hint_templates", *SETTINGS],
            outputs=["black_box_trials", "black_box_scores", "black_box_usage"],
            name="ask",
        ),
        Node(
            nodes.show_results,
            inputs=[*results, "black_box_trials", "black_box_usage"],
            outputs=None,
            name="show_results",
        ),
    ]
    scores = ["black_box_scores"]
    if names.parameters["black_box"].get("knowledge"):
        scores.append("knowledge_scores")
        parts += [
            Node(
                nodes.teach_writer,
                inputs=[*ASKED, f"{template}.prompt_template", "hint_templates", *SETTINGS, "prepared_llm"],
                outputs=["knowledge_llm", "knowledge_lessons"],
                name="teach_writer",
                tags=["gpu"],
            ),
            Node(
                nodes.answer_with_knowledge,
                inputs=[*ASKED, f"{template}.prompt_template", *SETTINGS, "knowledge_llm"],
                outputs=["knowledge_trials", "knowledge_scores", "knowledge_usage"],
                name="answer_with_knowledge",
                tags=["gpu"],
            ),
        ]
    parts.append(
        Node(
            nodes.evaluate,
            inputs=["scores", "test_questions", "params:black_box", "params:bootstrap", *scores],
            outputs=results,
            name="evaluate",
        )
    )
    return Pipeline(parts, namespace="black_box", prefix_datasets_with_namespace=False)
