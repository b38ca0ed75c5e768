"""Select few-shot rows by the quality of their texts (data-centric pretraining, Ziya2: arXiv 2311.03301)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from kedro_provenance.errors import quoted_value
from kedro_provenance.parameters import reads
from reclora_extras.base_models.config import BaseModelConfig
from reclora_kedro.history.config import FewShotConfig, HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import LEARNING, SPLITS, PromptRowsConfig, draw_questions
from reclora_kedro.llm.prompts import PromptConfig

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel

CANDIDATES_PER_ROW = 2  # rows drawn for each kept one, as filters drop some
INPUTS = ["base_llm", "params:base_model", "params:prompt"]


@reads(
    history=[*LEARNING, "seed"],
    base_model=["tokens_per_batch", "seed"],
    prompt=["positive_answer", "negative_answer"],
)
def draw_learning_questions(
    log_without_embeddings: InteractionLog,
    history: HistoryConfig,
    few_shot: FewShotConfig,
    base_llm: LanguageModel,
    base_model: BaseModelConfig,
    prompt: PromptConfig,
) -> pl.DataFrame:
    """Draw the few-shot rows by their quality, and the validation rows."""
    samples, rows = log_without_embeddings.samples, history.prompt_rows
    pool, size = draw_pool(samples, rows, CANDIDATES_PER_ROW, history.seed)
    chosen = choose_few_shot(base_llm, log_without_embeddings, pool, size, base_model, prompt)
    return pl.concat([chosen, draw_questions(samples, ("validation",), rows, history.seed)])


def draw_pool(
    samples: pl.DataFrame, config: PromptRowsConfig, candidates_per_row: int, seed: int
) -> tuple[pl.DataFrame, int]:
    """Draw several few-shot rows for each requested one; return them and the requested number.

    ValueError is raised for a size that is not in rows, or that `draw_questions` refuses.
    """
    if config.unit != "rows" or config.few_shot is None:
        raise ValueError(
            f"few_shot.selection is quality, which chooses rows, but history.prompt_rows has unit {config.unit} and "
            f"few_shot {quoted_value(config.few_shot)}: set unit to rows and few_shot to a number, or selection "
            "to uniform."
        )
    available = samples.filter(pl.col("split") == SPLITS["few_shot"]).height
    pooled = max(config.few_shot, min(available, candidates_per_row * config.few_shot))
    return draw_questions(samples, ("few_shot",), config.model_copy(update={"few_shot": pooled}), seed), config.few_shot


def choose_few_shot(
    llm: LanguageModel,
    log: InteractionLog,
    pool: pl.DataFrame,
    size: int,
    config: BaseModelConfig,
    prompt: PromptConfig,
) -> pl.DataFrame:
    """Draw `size` questions of a pool uniformly from those whose texts pass the filters; they keep their order.

    ImportError is raised without datasketch, ValueError if too few rows pass.
    """
    from reclora_extras.base_models.corpus import choose_by_quality, tell_samples

    texts, most = tell_samples(log, pool, config.corpus.events_per_text, prompt), config.corpus.max_tokens
    places, counts = choose_by_quality(llm, texts, most, config.tokens_per_batch)
    if len(places) < size:
        stages = ", ".join(f"{stage} {count}" for stage, count in counts.items())
        raise ValueError(
            f"history.prompt_rows.few_shot asks for {size} rows, but few_shot.selection is quality, and of the rows "
            f"that it chooses from only {len(places)} are good enough ({stages}): lower history.prompt_rows.few_shot, "
            "or set few_shot.selection to uniform."
        )
    return pool[np.sort(np.random.default_rng(config.seed).permutation(places)[:size])]
