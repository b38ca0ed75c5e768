"""Nodes of the scoring pipeline."""

import polars as pl
from torch import Tensor

from reclora_kedro.evaluation import scores
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.llm.answer_model import AnswerModel, ScoringConfig, score_table
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptConfig, prompt_format


def score_untrained(
    base_llm: LanguageModel, prompts: pl.DataFrame, prompt_config: PromptConfig, config: ScoringConfig
) -> pl.DataFrame:
    """Scores of the base LLM as it came, on the test prompts."""
    model = AnswerModel(base_llm, prompt_format(base_llm.tokenizer, prompt_config))
    test = prompt_set(prompts, "test")
    return score_table(test, model.scores(test, config.tokens_per_batch, "score"))


def score_adapter(
    base_llm: LanguageModel,
    adapter: str,
    prompts: pl.DataFrame,
    gate_inputs: dict[str, Tensor],
    prompt_config: PromptConfig,
    config: ScoringConfig,
) -> pl.DataFrame:
    """Scores of the base LLM with one variant's adapter, on the test prompts."""
    model = AnswerModel(base_llm, prompt_format(base_llm.tokenizer, prompt_config))
    test = prompt_set(prompts, "test", gate_inputs)
    scored = model.with_saved_adapter(adapter, gate_inputs).scores(test, config.tokens_per_batch, "score")
    return score_table(test, scored)


def collect_scores(prompt_rows: pl.DataFrame, log: InteractionLog, **tables: pl.DataFrame) -> pl.DataFrame:
    """Scores of the lens, the untrained LLM and every variant on the same test rows, with their users."""
    return scores.collect_scores(tables, prompt_rows.filter(pl.col("use") == "test"), log.samples)
