"""Nodes of the finetuning pipeline."""

from typing import Any

import numpy as np
import polars as pl
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reclora_kedro.adapters.personalized import AdapterConfig, new_adapter
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.llm import prompts as prompting
from reclora_kedro.llm.checkpoints import CheckpointStore
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.processes import train_in_processes
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.llm.scoring import prompt_set
from reclora_kedro.llm.training import TrainingConfig


class VariantConfig(BaseModel):
    """One adapter to train and compare: what its prompts show, what it is, and how it learns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    history: str = Field(description="name of the short history that its prompts show, one of history.short")
    adapter: AdapterConfig
    training: TrainingConfig


def build_prompts(
    base_llm: LanguageModel,
    prompt_template: str,
    prompt_rows: pl.DataFrame,
    samples: pl.DataFrame,
    sequences: dict[str, np.ndarray],
    short_history: dict[str, np.ndarray],
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: PromptConfig,
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Text and tokens of every prompt, and a report of their lengths and what the budget cost."""
    records = prompt_records(prompt_rows, samples, Sequences(**sequences), short_history["events"], items, users)
    prompts = prompting.build_prompts(base_llm.tokenizer, records, prompt_template, config, base_llm.context_tokens)
    return prompts, prompting.prompt_report(prompts)


def train_variant(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    lens_states: dict[str, Tensor],
    checkpoints: CheckpointStore,
    prompt_config: PromptConfig,
    variant: VariantConfig,
) -> tuple[pl.DataFrame, PeftModel]:
    """One variant's training log, and its adapter at its best validation AUC."""
    kind = variant.adapter.gate_input
    few_shot, validation = (prompt_set(prompts, use, lens_states, kind) for use in ("few_shot", "validation"))
    adapter = new_adapter(base_llm.model, variant.adapter, few_shot.lens_states, variant.training.seed)
    adapted = base_llm.with_model(adapter)
    form = prompting.prompt_format(base_llm.tokenizer, prompt_config)
    log = train_in_processes(adapted, form, few_shot, validation, variant.training, checkpoints)
    return log, adapted.model
