"""Pipelines from a table of questions to prompts and scores, which steps instantiate under the table's name.

The tables are ``learning`` (few-shot and validation rows), ``test``, ``recommendation`` and ``ranking``.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.question_nodes import (
    assemble_histories,
    assemble_history,
    build_prompts,
    compute_gate_inputs,
    score_questions,
)


def prompts_pipeline(name: str, names: PipelineNames, histories: Sequence[str]) -> Pipeline:
    """Build ``<name>.<history>.prompts`` from ``<name>_questions``, for each of the short histories."""
    assemble = Node(
        assemble_histories,
        inputs=["log", "questions", "params:history"],
        outputs={history: f"{history}.short_history" for history in histories},
        name="assemble_histories",
    )
    return _in_namespace(name, [assemble, *(_prompt_node(names, history) for history in histories)])


def answers_pipeline(name: str, names: PipelineNames, variant: str) -> Pipeline:
    """Build ``<name>_scores``, the answers of one variant, from ``<name>_questions``."""
    history = names.variants[variant]
    nodes = [
        Node(
            assemble_history,
            inputs=["log", "questions", "params:history", "params:variant"],
            outputs=f"{history}.short_history",
            name="assemble_history",
        ),
        _prompt_node(names, history),
        Node(
            compute_gate_inputs,
            inputs=["lens", "log", "questions", "params:variant", "params:engine"],
            outputs="gate_inputs",
            name="compute_gate_inputs",
        ),
        Node(
            score_questions,
            inputs=[
                "base_llm",
                "adapter",
                f"{history}.prompts",
                "gate_inputs",
                "params:prompt",
                "params:variant",
                "params:scoring",
                "params:engine",
            ],
            outputs="scores",
            name="score_questions",
            tags=["gpu"],
        ),
    ]
    own = {"adapter": f"{variant}.adapter", "params:variant": f"params:finetuning.variants.{variant}"}
    return _in_namespace(name, nodes, own | {"scores": f"{name}_scores"})


def _prompt_node(names: PipelineNames, history: str) -> Node:
    return Node(
        build_prompts,
        inputs=[
            "base_llm",
            names.prompt_template,
            "log",
            "questions",
            f"{history}.short_history",
            "params:prompt",
            "params:ingestion.items.missing_title",
        ],
        outputs=[f"{history}.prompts", f"{history}.prompt_report"],
        name=f"build_{history}_prompts",
        tags=["gpu"],  # it loads the LLM: nodes that need none run before it
    )


def _in_namespace(name: str, nodes: list[Node], renamed: Mapping[str, str] = MappingProxyType({})) -> Pipeline:
    """Put nodes into a namespace, except for entries that other steps share."""
    free = Pipeline(nodes)
    names = {entry: entry for entry in free.inputs()} | {"questions": f"{name}_questions", **renamed}
    return Pipeline(
        nodes,
        namespace=name,
        inputs={entry: names[entry] for entry in free.inputs() if not is_parameter(entry)},
        outputs={entry: names[entry] for entry in free.outputs() & names.keys()},
        parameters={entry: names[entry] for entry in free.inputs() if is_parameter(entry)},
    )
