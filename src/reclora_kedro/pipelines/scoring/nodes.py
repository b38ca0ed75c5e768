"""Nodes of the scoring pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.scoring.config import ScoringConfig

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.distributed.checkpoints import FinishedShards
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.llm.language_model import LanguageModel


@reads(config=["tokens_per_batch", "permuted_inputs", "permuted_rows", "seed"])
def score_untrained(
    base_llm: LanguageModel,
    prompts: pl.DataFrame,
    finished_shards: FinishedShards,
    prompt_config: PromptConfig,
    config: ScoringConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score the test prompts with the untrained base LLM, and with one input permuted at a time."""
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.scoring.permutation import score_with_permuted

    model = replace(answering_model(base_llm, prompt_config, engine), finished=finished_shards)
    return score_with_permuted(model, prompts, None, config)


@reads(config=["permuted_inputs", "permuted_rows", "seed"])
def permute_lens_inputs(
    lens: Lens, log: InteractionLog, test_questions: pl.DataFrame, config: ScoringConfig
) -> pl.DataFrame:
    """Score with one of the lens's inputs permuted at a time."""
    from reclora_kedro.scoring.permutation import permuted_lens_scores

    places, _ = permuted_rows(test_questions.height, config.permuted_rows, config.seed)
    return permuted_lens_scores(lens, log, test_questions[places], config.permuted_inputs)


@reads(config=["tokens_per_batch", "permuted_inputs", "permuted_rows", "seed"])
def score_adapter(
    base_llm: LanguageModel,
    adapter: str,
    prompts: pl.DataFrame,
    states: dict[str, Tensor],
    finished_shards: FinishedShards,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    config: ScoringConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score the test prompts with one variant's adapter, and with one input permuted at a time."""
    from reclora_kedro.lens.states import gate_inputs
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.scoring.permutation import score_with_permuted

    read = gate_inputs(states, variant.gate_input)
    model = answering_model(base_llm, prompt_config, engine, adapter=adapter, gate_inputs=read, blend=variant.blend)
    return score_with_permuted(replace(model, finished=finished_shards), prompts, read, config)
