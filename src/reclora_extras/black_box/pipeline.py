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
    """Score test rows by the LLM of an API, with and without hints of the lens, and compare with other models."""
    results, settings = ["black_box_metrics", "black_box_comparisons"], params("black_box", "prompt")
    template = f"{names.parameters['black_box']['template']}.prompt_template"
    asked = ["black_box_llm", "black_box_answers", "black_box_records", template]
    return step(
        "black_box",
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
        node(
            nodes.evaluate,
            ["black_box_scores", "scores", "test_questions", *params("black_box", "bootstrap")],
            results,
        ),
        node(nodes.show_results, [*results, "black_box_trials", "black_box_usage"], None),
    )


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
