"""Nodes of the finetuning pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from peft import PeftModel
from torch import Tensor

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.checkpoints import CheckpointStore
from reclora_kedro.finetuning.processes import fine_tune
from reclora_kedro.finetuning.variants import VariantConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.lens import states
from reclora_kedro.llm import prompts as prompting
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptConfig


def build_prompts(
    base_llm: LanguageModel,
    prompt_templates: dict[str, Callable[[], str]],
    prompt_rows: pl.DataFrame,
    log: InteractionLog,
    short_history: dict[str, np.ndarray],
    config: PromptConfig,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Text and tokens of every prompt, and a report of their lengths and what the budget cost."""
    records = prompt_records(prompt_rows, log, short_history["events"])
    template = prompting.choose_template(prompt_templates, config.template)
    prompts = prompting.build_prompts(base_llm.tokenizer, records, template, config, base_llm.context_tokens)
    return prompts, prompting.prompt_report(prompts)


def select_gate_inputs(
    lens_states: dict[str, Tensor], few_shot_states: dict[str, Tensor], variant: VariantConfig
) -> GateInputs:
    """What the variant's gates read of each prompt's row, and the lens's logits beside it."""
    return states.gate_inputs(states.with_few_shot(lens_states, few_shot_states), variant.gate_input)


def train_adapter(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    gate_inputs: GateInputs,
    checkpoints: CheckpointStore,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, PeftModel]:
    """The variant's training log, and its adapter at its best validation AUC."""
    few_shot, validation = (prompt_set(prompts, use, gate_inputs) for use in ("few_shot", "validation"))
    assert few_shot.gate_inputs is not None
    adapter = new_adapter(base_llm.model, variant.adapter, few_shot.gate_inputs, variant.training.seed)
    model = answering_model(base_llm.with_model(adapter), prompt_config, engine, blend=variant.blend)
    return fine_tune(model, few_shot, validation, variant.training, checkpoints), adapter
