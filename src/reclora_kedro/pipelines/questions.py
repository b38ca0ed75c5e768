"""What every table of questions goes through on its way to scores, as pipelines that steps instantiate by a name.

The names of questions are ``learning`` (few-shot and validation rows), ``test``, ``recommendation`` and ``ranking``.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

from kedro_provenance.parameters import reads
from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.lens import states
from reclora_kedro.lens.base import Lens
from reclora_kedro.llm import prompts as prompting
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.scoring.prompt_scores import ScoringConfig, score_prompts


def prompts_pipeline(name: str, names: PipelineNames, histories: Sequence[str]) -> Pipeline:
    """From ``<name>_questions`` to their prompts ``<name>.<history>.prompts``, with each of the short histories."""
    assemble = Node(
        assemble_histories,
        inputs=["log", "questions", "params:history"],
        outputs={history: f"{history}.short_history" for history in histories},
        name="assemble_histories",
    )
    return _in_namespace(name, [assemble, *(_prompt_node(names, history) for history in histories)])


def answers_pipeline(name: str, names: PipelineNames, variant: str) -> Pipeline:
    """From ``<name>_questions`` to ``<name>_scores``, what one variant answers; prompts that start alike share work."""
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
    )


def _in_namespace(name: str, nodes: list[Node], renamed: Mapping[str, str] = MappingProxyType({})) -> Pipeline:
    """The nodes in a namespace, where what they share with other steps keeps its name."""
    free = Pipeline(nodes)
    names = {entry: entry for entry in free.inputs()} | {"questions": f"{name}_questions", **renamed}
    return Pipeline(
        nodes,
        namespace=name,
        inputs={entry: names[entry] for entry in free.inputs() if not is_parameter(entry)},
        outputs={entry: names[entry] for entry in free.outputs() & names.keys()},
        parameters={entry: names[entry] for entry in free.inputs() if is_parameter(entry)},
    )


@reads(history=["short"])
def assemble_histories(
    log: InteractionLog, questions: pl.DataFrame, history: HistoryConfig
) -> dict[str, dict[str, np.ndarray]]:
    """The events that the prompt of each question may show of its user's past, by the name of the short history."""
    windows = {name: window for name, window in history.short.items() if window is not None}
    return {name: {"events": log.histories(questions, window)} for name, window in windows.items()}


@reads(history=["short"])
def assemble_history(
    log: InteractionLog, questions: pl.DataFrame, history: HistoryConfig, variant: VariantConfig
) -> dict[str, np.ndarray]:
    """The same by the short history of a variant alone."""
    window = history.short[variant.history]
    assert window is not None  # the variant's history is one of those that are there
    return {"events": log.histories(questions, window)}


def build_prompts(
    base_llm: LanguageModel,
    template: str,
    log: InteractionLog,
    questions: pl.DataFrame,
    short_history: dict[str, np.ndarray],
    config: PromptConfig,
    unknown_title: str,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The questions with text and tokens of their prompts, and a report of their lengths and what the budget cost."""
    records = prompt_records(questions, log, short_history["events"])
    prompting.require_titles(records, unknown_title, config)
    prompts = prompting.build_prompts(base_llm.tokenizer, records, template, config, base_llm.context_tokens)
    prompts = questions.hstack(prompts.drop("row", "use", "label"))
    return prompts, prompting.prompt_report(prompts)


def compute_gate_inputs(
    lens: Lens, log: InteractionLog, questions: pl.DataFrame, variant: VariantConfig, engine: EngineConfig
) -> GateInputs:
    """What the variant's gates read of each question, and the lens's logits beside it."""
    return states.gate_inputs(states.lens_states(lens, log, questions, engine), variant.gate_input)


@reads(config=["tokens_per_batch"])
def score_questions(
    base_llm: LanguageModel,
    adapter: str,
    prompts: pl.DataFrame,
    gate_inputs: GateInputs,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    config: ScoringConfig,
    engine: EngineConfig,
) -> pl.DataFrame:
    """The questions, what their prompts showed, and the variant's scores."""
    model = answering_model(
        base_llm, prompt_config, engine, adapter=adapter, gate_inputs=gate_inputs, blend=variant.blend
    )
    scores = score_prompts(model, prompts, gate_inputs, config.tokens_per_batch)
    return prompts.drop("prompt", "token_ids").with_columns(score=scores)
