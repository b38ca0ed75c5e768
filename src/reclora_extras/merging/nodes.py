"""Nodes of the merging pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from kedro_provenance.parameters import reads
from reclora_extras.merging.config import MergingConfig
from reclora_kedro.adapters.registry import ExportConfig
from reclora_kedro.evaluation import metrics, significance
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import ModelMetrics
from reclora_kedro.evaluation.scores import align_scores
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.scoring.config import ScoringConfig

if TYPE_CHECKING:
    from torch import nn

    from reclora_extras.merging.merging import MergedLoras
    from reclora_kedro.llm.language_model import LanguageModel

MERGING = ("iterations", "solve_for", "seed")


@reads(config=["prompts", "seed"])
def draw_calibration(log: InteractionLog, config: MergingConfig) -> pl.DataFrame:
    """Draw questions of all users for the inputs of the layers."""
    from reclora_extras.merging import merging

    return merging.draw_calibration(log, None, config)


@reads(config=["users", "prompts", "seed"])
def draw_calibration_of_users(log: InteractionLog, config: MergingConfig, export: ExportConfig) -> pl.DataFrame:
    """Draw questions of each user whose LoRA is merged, for the inputs of the layers."""
    from reclora_extras.merging import merging

    users = log.choose_users(export.users, export.most_active)[: config.users]
    return merging.draw_calibration(log, users, config)


@reads(config=MERGING, scoring=["tokens_per_batch"])
def merge_variants(
    base_llm: LanguageModel, prompts: pl.DataFrame, config: MergingConfig, scoring: ScoringConfig, **adapters: str
) -> tuple[MergedLoras, pl.DataFrame]:
    """Merge the LoRAs of variants by each method; return them and the log of IterIS."""
    from reclora_extras.merging import merging
    from reclora_kedro.adapters.methods import lora_of
    from reclora_kedro.llm.prompt_set import prompt_set

    loras = {variant: lora_of(base_llm.model, folder) for variant, folder in adapters.items()}
    calibration = dict.fromkeys(loras, prompt_set(prompts, "few_shot"))
    return merging.merge_loras(base_llm, loras, calibration, config, scoring.tokens_per_batch)


@reads(config=MERGING, scoring=["tokens_per_batch"])
def merge_users(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    log: InteractionLog,
    user_adapters: str,
    config: MergingConfig,
    scoring: ScoringConfig,
) -> tuple[MergedLoras, pl.DataFrame]:
    """Merge the exported LoRAs of the prompts' users by each method; return them and the log of IterIS."""
    from reclora_extras.merging import merging
    from reclora_kedro.adapters.lora import load_user_loras
    from reclora_kedro.llm.prompt_set import prompt_set

    index = prompts["user_index"].unique(maintain_order=True)
    loras = load_user_loras(Path(user_adapters), log.users["user_id"].gather(index).to_list())
    of_users = (prompt_set(prompts.filter(user_index=user), "few_shot") for user in index)
    calibration = dict(zip(loras, of_users, strict=True))
    return merging.merge_loras(base_llm, loras, calibration, config, scoring.tokens_per_batch)


@reads(config=["method"])
def choose_merged(base_llm: LanguageModel, merged_loras: str, config: MergingConfig) -> nn.Module:
    """Return the LoRA of the chosen method as an adapter."""
    from reclora_kedro.adapters.lora import Lora
    from reclora_kedro.adapters.methods import adapter_of

    return adapter_of(base_llm.model, Lora.load(Path(merged_loras, config.method)))


@reads(config=["seed"], scoring=["tokens_per_batch"])
def score_merged(
    base_llm: LanguageModel,
    merged_loras: str,
    prompts: pl.DataFrame,
    log: InteractionLog,
    scores: pl.DataFrame,
    config: MergingConfig,
    prompt_config: PromptConfig,
    scoring: ScoringConfig,
    bootstrap: Bootstrap,
) -> tuple[pl.DataFrame, list[ModelMetrics]]:
    """Score test rows of new users by each merged LoRA; compare with the run's other models."""
    from reclora_extras.merging import merging

    rows = merging.new_user_rows(prompts, log, config)
    merged = merging.score_loras(base_llm, Path(merged_loras), rows, prompt_config, scoring.tokens_per_batch)
    table = pl.concat([merged, scores.join(rows.select("row"), on="row", how="semi")], how="vertical_relaxed")
    paired = align_scores(table)
    return table, metrics.compute_metrics(paired, significance.bootstrap_auc(paired, bootstrap), bootstrap)
