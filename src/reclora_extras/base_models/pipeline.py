"""Drop layers of the base LLM before adapters are trained; on request."""

from collections.abc import Callable, Iterator
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_extras.base_models import nodes
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.wiring import node, params, shown, step

NEEDS_LLM = True


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Prepare the base LLM by the steps of ``base_model.steps``."""
    prompts = f"learning.{names.short_histories[0]}.prompts"
    steps = step(
        "base_model",
        node(
            nodes.prepare_llm,
            ["base_llm", "log_without_embeddings", prompts, *params("base_model", "prompt")],
            ["prepared_llm", "base_model_steps", "base_model_scores"],
            tags=["gpu"],
        ),
        node(
            nodes.report_base_model,
            ["base_model_steps", "base_model_scores", "params:bootstrap"],
            "base_model_report",
        ),
        shown("show_base_model", nodes.base_model_tables, "base_model_report"),
    )
    return prompts_pipeline("learning", names, names.short_histories) + steps


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the steps, without loading the base LLM's weights."""
    if {"base_llm", "params:base_model"} <= pipeline.inputs():
        from reclora_extras.base_models.preparing import require_steps

        base_llm: Any = catalog.get("base_llm")
        if hasattr(base_llm, "outline"):
            yield lambda: require_steps(base_llm.outline(), catalog.load("params:base_model"))
