"""Pipelines from a table of questions to prompts and scores, which steps instantiate under the table's name.

The tables are ``learning`` (few-shot and validation rows), ``test``, ``recommendation`` and ``ranking``.
"""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.question_nodes import (
    assemble_histories,
    build_prompts,
    compute_gate_inputs,
    score_questions,
)
from reclora_kedro.pipelines.wiring import in_namespace, node

SETTINGS = ("params:prompt", "params:variant")
OWN = ("adapter", "checkpoints", "finished_shards")


def prompts_pipeline(name: str, names: PipelineNames, histories: Sequence[str]) -> Pipeline:
    """Build ``<name>.<history>.prompts`` from ``<name>_questions``, for each of the short histories."""
    nodes = [_histories_node(histories), *(_prompt_node(names, history) for history in histories)]
    return in_namespace(name, nodes, {"questions": f"{name}_questions"})


def answers_pipeline(name: str, names: PipelineNames, variant: str) -> Pipeline:
    """Build ``<name>_scores``, the answers of one variant, from ``<name>_questions``."""
    history = names.variants[variant]
    nodes = [
        _histories_node([history], "params:variant"),
        _prompt_node(names, history),
        node(compute_gate_inputs, ["lens", "log", "questions", "params:variant", "params:engine"], "gate_inputs"),
        node(
            score_questions,
            ["base_llm", "adapter", f"{history}.prompts", "gate_inputs", *SETTINGS, "params:scoring", "params:engine"],
            "scores",
            tags=["gpu"],
        ),
    ]
    renamed = {"questions": f"{name}_questions", "adapter": f"{variant}.adapter", "scores": f"{name}_scores"}
    return in_namespace(name, nodes, renamed | settings_of(variant))


def of_variant(variant: str, node: Node, prompts: str) -> Pipeline:
    """Put a node into the namespace of a variant, which has weights and shards of its own."""
    return in_namespace(variant, [node], {"prompts": prompts} | settings_of(variant), OWN)


def settings_of(variant: str) -> dict[str, str]:
    return {"params:variant": f"params:finetuning.variants.{variant}"}


def _histories_node(histories: Sequence[str], *variant: str) -> Node:
    selected = {history: f"{history}.short_history" for history in histories}
    return node(assemble_histories, ["log", "questions", "params:history", *variant], selected)


def _prompt_node(names: PipelineNames, history: str) -> Node:
    template = f"{names.parameters['prompt']['template']}.prompt_template"
    read = ["base_llm", template, "log", "questions", f"{history}.short_history"]
    return node(
        build_prompts,
        [*read, "params:prompt", "params:ingestion.items.missing_title"],
        [f"{history}.prompts", f"{history}.prompt_report"],
        name=f"build_{history}_prompts",
        tags=["gpu"],  # it loads the LLM: nodes that need none run before it
    )
