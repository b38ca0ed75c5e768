"""Ask an LLM behind an API about test rows, with and without hints of the lens; on request."""

from collections.abc import Callable, Iterator

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_extras.black_box import nodes
from reclora_kedro.llm.prompts import require_template
from reclora_kedro.pipelines.checks import configured_fields
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, params, step

NEEDS_LLM = True


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Score test rows by the LLM of an API, with and without hints of the lens, and compare with other models.

    Where ``black_box.knowledge`` is set, a small language model writes what the LLM is told, too.
    """
    results, settings = ["black_box_metrics", "black_box_comparisons"], params("black_box", "prompt")
    template = f"{names.parameters['black_box']['template']}.prompt_template"
    asked = ["black_box_llm", "black_box_answers", "black_box_records", template]
    parts = [
        node(
            nodes.describe_questions,
            ["lens", "log", "learning_questions", "test_questions", *params("history", "black_box", "engine")],
            "black_box_records",
        ),
        node(
            nodes.ask,
            [*asked, "hint_templates", *settings],
            ["black_box_trials", "black_box_scores", "black_box_usage"],
        ),
        node(nodes.show_results, [*results, "black_box_trials", "black_box_usage"], None),
    ]
    scores = ["black_box_scores"]
    if names.parameters["black_box"].get("knowledge"):
        scores.append("knowledge_scores")
        parts += [
            node(
                nodes.teach_writer,
                [*asked, "hint_templates", *settings, "prepared_llm"],
                ["knowledge_llm", "knowledge_lessons"],
                tags=["gpu"],
            ),
            node(
                nodes.answer_with_knowledge,
                [*asked, *settings, "knowledge_llm"],
                ["knowledge_trials", "knowledge_scores", "knowledge_usage"],
                tags=["gpu"],
            ),
        ]
    compared = ["scores", "test_questions", *params("black_box", "bootstrap"), *scores]
    return step("black_box", *parts, node(nodes.evaluate, compared, results))


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the templates of messages, then one small call, which may cost something."""
    from reclora_extras.black_box.asking import require_hints

    if "black_box_llm" not in pipeline.inputs():
        return
    config, prompt, fields = catalog.load("params:black_box"), catalog.load("params:prompt"), configured_fields(catalog)

    def require_messages() -> None:
        template = catalog.load(f"{config.template}.prompt_template")
        require_template(template, prompt, fields)
        writer = nodes.message_writer(template, catalog.load("hint_templates"), config, prompt)
        require_hints(writer, config, fields)

    yield require_messages
    yield catalog.load("black_box_llm").require
