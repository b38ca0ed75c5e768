"""Nodes from a table of questions to prompts and scores.

A node's recipe covers its module and that module's imports, so that this module imports no pipelines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.records import prompt_records
from reclora_kedro.llm import prompts as prompting
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.scoring.config import ScoringConfig

if TYPE_CHECKING:
    from reclora_kedro.gate_inputs import GateInputs
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.llm.language_model import LanguageModel


@reads(history=["short"])
def assemble_histories(
    log: InteractionLog, questions: pl.DataFrame, history: HistoryConfig, variant: VariantConfig | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Select the events of each question's prompt, by the name of the short history; of a variant, its own alone."""
    read = history.short if variant is None else {variant.history: history.short[variant.history]}
    windows = {name: window for name, window in read.items() if window is not None}
    return {name: {"events": log.histories(questions, window)} for name, window in windows.items()}


def build_prompts(
    base_llm: LanguageModel,
    template: str,
    log: InteractionLog,
    questions: pl.DataFrame,
    short_history: dict[str, np.ndarray],
    config: PromptConfig,
    unknown_title: str,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Return the questions with the text and tokens of their prompts, and a report on lengths and cuts."""
    records = prompt_records(questions, log, short_history["events"])
    prompting.require_titles(records, unknown_title, config)
    prompts = prompting.PromptBuilder(base_llm.tokenizer, template, config, base_llm.context_tokens).build(records)
    prompts = questions.hstack(prompts.drop("row", "use", "label"))
    return prompts, prompting.prompt_report(prompts)


def compute_gate_inputs(
    lens: Lens, log: InteractionLog, questions: pl.DataFrame, variant: VariantConfig, engine: EngineConfig
) -> GateInputs:
    """Compute the inputs of the variant's gates, and the lens's logits."""
    from reclora_kedro.lens import states

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
    """Score questions with a variant; the texts and tokens of prompts are dropped."""
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.scoring.prompt_scores import score_prompts

    model = answering_model(
        base_llm, prompt_config, engine, adapter=adapter, gate_inputs=gate_inputs, blend=variant.blend
    )
    scores = score_prompts(model, prompts, gate_inputs, config.tokens_per_batch)
    return prompts.drop("prompt", "token_ids", "retitled_ids").with_columns(score=scores)
