"""Nodes of the history pipeline."""

import numpy as np
import polars as pl

from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.item_embeddings import describe_items, principal_components
from reclora_kedro.histories.retrieval import assemble_history
from reclora_kedro.histories.sequences import Sequences, build_samples, build_sequences
from reclora_kedro.interactions import splits
from reclora_kedro.llm.embedding import embed_texts
from reclora_kedro.llm.language_model import LanguageModel


def collect_samples(
    interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, history: HistoryConfig
) -> tuple[dict[str, np.ndarray], pl.DataFrame]:
    """Each user's sequence, and the samples with their split."""
    sequences = build_sequences(interactions, items, users)
    samples = build_samples(sequences, history.min_history)
    return vars(sequences), splits.assign_splits(samples, history.split)


def select_prompt_rows(samples: pl.DataFrame, history: HistoryConfig) -> pl.DataFrame:
    """The rows that the LLM sees."""
    return splits.select_prompt_rows(samples, history.prompt_rows, history.seed)


def embed_items(base_llm: LanguageModel, items: pl.DataFrame, history: HistoryConfig) -> dict[str, np.ndarray]:
    """Semantic embeddings of the items' descriptions by the base LLM."""
    config = history.item_embedding
    embeddings = embed_texts(
        base_llm, describe_items(items), max_tokens=config.max_tokens, tokens_per_batch=config.tokens_per_batch
    )
    return {"embeddings": principal_components(embeddings, config.components, history.seed)}


def assemble_short_histories(
    prompt_rows: pl.DataFrame,
    samples: pl.DataFrame,
    sequences: dict[str, np.ndarray],
    item_embeddings: dict[str, np.ndarray],
    history: HistoryConfig,
) -> dict[str, dict[str, np.ndarray]]:
    """The events that each prompt may show of its user's past, by the name of the short history."""
    rows, events = samples[prompt_rows["row"].to_numpy()], Sequences(**sequences)
    return {
        name: {"events": assemble_history(rows, events, item_embeddings["embeddings"], window)}
        for name, window in history.short.items()
        if window is not None
    }
