"""Nodes of the history pipeline."""

import numpy as np
import polars as pl

from reclora_kedro.histories import log as logs
from reclora_kedro.histories import splits
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.item_text import describe_items, principal_components
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.llm.embedding import embed_texts
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.parameters import reads

Arrays = dict[str, np.ndarray]


def build_log(
    interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, history: HistoryConfig
) -> InteractionLog:
    """The canonical tables as one log, with each user's sequence and the split of the samples."""
    return logs.build_log(interactions, items, users, history)


@reads(history=["prompt_rows", "seed"])
def select_prompt_rows(log: InteractionLog, history: HistoryConfig) -> pl.DataFrame:
    """The samples that the LLM sees."""
    return splits.select_prompt_rows(log.samples, history.prompt_rows, history.seed)


@reads(history=["item_embedding", "seed"])
def embed_items(base_llm: LanguageModel, items: pl.DataFrame, history: HistoryConfig) -> Arrays:
    """Semantic embeddings of the items' descriptions by the base LLM."""
    config = history.item_embedding
    vectors = embed_texts(base_llm, describe_items(items), config.max_tokens, config.tokens_per_batch)
    return {"embeddings": principal_components(vectors, config.components, history.seed)}


@reads(history=["short"])
def assemble_short_histories(
    log: InteractionLog, item_embeddings: Arrays, prompt_rows: pl.DataFrame, history: HistoryConfig
) -> dict[str, Arrays]:
    """The events that each prompt may show of its user's past, by the name of the short history."""
    log, samples = log.with_embeddings(item_embeddings["embeddings"]), log.samples[prompt_rows["row"].to_numpy()]
    windows = {name: window for name, window in history.short.items() if window is not None}
    return {name: {"events": log.histories(samples, window)} for name, window in windows.items()}
