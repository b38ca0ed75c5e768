"""Pretrain, prune and distill the base LLM before adapters are trained; on request."""

from kedro.pipeline import Node, Pipeline

from reclora_extras.base_models import nodes
from reclora_extras.base_models.checks import checks
from reclora_extras.base_models.steps import load_step
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.questions import prompts_pipeline

__all__ = ["checks", "create_pipeline"]

NEEDS_LLM = True


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Prepare the base LLM by the steps of ``base_model.steps``; a variant's adapter may be the teacher."""
    teacher = teaching_variant(names)
    history = names.variants[teacher] if teacher else names.short_histories[0]
    read = ["learning_states", f"{teacher}.adapter", f"params:finetuning.variants.{teacher}"] if teacher else []
    steps = Pipeline(
        [
            Node(
                nodes.distill_llm if teacher else nodes.prepare_llm,
                inputs=[
                    "base_llm",
                    "log_without_embeddings",
                    f"learning.{history}.prompts",
                    "further_texts",
                    "params:base_model",
                    "params:prompt",
                    *read,
                ],
                outputs=["prepared_llm", "base_model_steps", "base_model_scores"],
                name="prepare_llm",
                tags=["gpu"],
            ),
            Node(
                nodes.report_base_model,
                inputs=["base_model_steps", "base_model_scores", "params:bootstrap"],
                outputs="base_model_report",
                name="report_base_model",
            ),
            Node(nodes.show_base_model, "base_model_report", outputs=None, name="show_base_model"),
        ],
        namespace="base_model",
        prefix_datasets_with_namespace=False,
    )
    return prompts_pipeline("learning", names, names.short_histories) + steps


def teaching_variant(names: PipelineNames) -> str | None:
    """Return the variant of the teacher, ``base_model.variant``; None if no step reads it.

    Raises:
        NameRefusedError: a step of ``base_model.steps`` reads it, and ``finetuning.variants`` does not name it.
    """
    try:
        has_teacher = any(load_step(step).has_teacher for step in names.parameters["base_model"]["steps"])
    except (ValueError, TypeError):  # no list of steps, which the check of its values refuses
        return None
    return names.variant_of("base_model") if has_teacher else None
