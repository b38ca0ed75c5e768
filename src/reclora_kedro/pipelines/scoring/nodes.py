"""Nodes of the scoring pipeline."""

import polars as pl
from torch import Tensor

from reclora_kedro.adapters.personalized import load_adapter
from reclora_kedro.llm import scoring
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig, prompt_format
from reclora_kedro.llm.scoring import ScoringConfig, prompt_set, score_prompts


def score_untrained(
    base_llm: LanguageModel, prompts: pl.DataFrame, prompt_config: PromptConfig, config: ScoringConfig
) -> pl.DataFrame:
    """Scores of the base LLM as it came, on the test prompts."""
    test = prompt_set(prompts, "test")
    form = prompt_format(base_llm.tokenizer, prompt_config)
    return scoring.score_table(test, score_prompts(base_llm, form, test, config.tokens_per_batch, "score"))


def score_variant(
    base_llm: LanguageModel,
    adapter: str,
    prompts: pl.DataFrame,
    lens_states: dict[str, Tensor],
    prompt_config: PromptConfig,
    config: ScoringConfig,
) -> pl.DataFrame:
    """Scores of the base LLM with one variant's adapter, on the test prompts."""
    adapted = base_llm.with_model(load_adapter(base_llm.model, adapter))
    test = prompt_set(prompts, "test", lens_states, adapted.model.active_peft_config.gate_input)
    form = prompt_format(base_llm.tokenizer, prompt_config)
    return scoring.score_table(test, score_prompts(adapted, form, test, config.tokens_per_batch, "score"))


def collect_scores(prompt_rows: pl.DataFrame, **tables: pl.DataFrame) -> pl.DataFrame:
    """Scores of the lens, the untrained LLM and every variant on the same test rows."""
    return scoring.collect_scores(tables, prompt_rows.filter(pl.col("use") == "test"))
