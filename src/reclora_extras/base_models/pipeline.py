"""Prune and distill the base LLM before adapters are trained; on request."""

from collections.abc import Callable, Iterator
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_extras.base_models import nodes
from reclora_extras.base_models.steps import load_step
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline
from reclora_kedro.pipelines.wiring import node, params, shown, step

NEEDS_LLM = True


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Prepare the base LLM by the steps of ``base_model.steps``; a variant's adapter may be the teacher."""
    teacher = teaching_variant(names)
    history = names.variants[teacher] if teacher else names.short_histories[0]
    read = ["learning_states", f"{teacher}.adapter", f"params:finetuning.variants.{teacher}"] if teacher else []
    prompts = f"learning.{history}.prompts"
    steps = step(
        "base_model",
        node(
            nodes.distill_llm if teacher else nodes.prepare_llm,
            ["base_llm", "log_without_embeddings", prompts, *params("base_model", "prompt"), *read],
            ["prepared_llm", "base_model_steps", "base_model_scores"],
            name="prepare_llm",
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


def teaching_variant(names: PipelineNames) -> str | None:
    """Return the variant of the teacher, ``base_model.variant``; None if no step reads it.

    NameRefusedError is raised if a step reads it, and ``finetuning.variants`` does not name it.
    """
    try:
        has_teacher = any(load_step(step).has_teacher for step in names.parameters["base_model"]["steps"])
    except (ValueError, TypeError):  # no list of steps, which the check of its values refuses
        return None
    return names.variant_of("base_model") if has_teacher else None


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield a check of the steps, without loading the base LLM's weights."""
    if {"base_llm", "params:base_model"} <= pipeline.inputs():
        from reclora_extras.base_models.preparing import require_steps

        base_llm: Any = catalog.get("base_llm")
        if hasattr(base_llm, "outline"):
            yield lambda: require_steps(base_llm.outline(), catalog.load("params:base_model"))
