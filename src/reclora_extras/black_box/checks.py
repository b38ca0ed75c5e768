"""Checks before the black box is asked."""

from collections.abc import Callable, Iterator

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.llm.prompts import require_template
from reclora_kedro.pipelines.checks import configured_fields


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the templates of messages, then one small call, which may cost something."""
    from reclora_extras.black_box.asking import require_hints
    from reclora_extras.black_box.hints import MessageWriter

    if "black_box_llm" not in pipeline.inputs():
        return
    config, prompt, fields = catalog.load("params:black_box"), catalog.load("params:prompt"), configured_fields(catalog)

    def require_messages() -> None:
        template = catalog.load(f"{config.template}.prompt_template")
        require_template(template, prompt, *fields)
        hints = {name: load() for name, load in catalog.load("hint_templates").items()}
        require_hints(MessageWriter(template, hints, prompt, config.max_characters), config, *fields)

    yield require_messages
    yield catalog.load("black_box_llm").require
