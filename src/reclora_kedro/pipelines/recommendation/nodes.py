"""Nodes of the recommendation step."""

import time
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from torch import Tensor

from reclora_kedro.adapters.personalized import load_adapter
from reclora_kedro.configured_names import variant_histories, variant_names
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.sequences import Sequences
from reclora_kedro.lens.base import load_lens
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.llm.scoring import ScoringConfig
from reclora_kedro.recommendation import candidates, presentation, ranking
from reclora_kedro.recommendation.config import RecommendationConfig

Arrays = dict[str, np.ndarray]
Report = dict[str, Any]


def shortlist_candidates(
    sequences: Arrays,
    item_embeddings: Arrays,
    items: pl.DataFrame,
    users: pl.DataFrame,
    lens_config: dict[str, Any],
    lens_weights: dict[str, Tensor],
    recommendation_candidates: Any,
    config: RecommendationConfig,
) -> tuple[pl.DataFrame, Report]:
    """Each user's best candidates by the lens, and counts of users without history or candidates."""
    candidates.require_variant(config.variant, variant_names())
    start = time.perf_counter()
    shortlist, report = candidates.shortlist_candidates(
        load_lens(lens_config, lens_weights),
        Sequences(**sequences),
        item_embeddings["embeddings"],
        items,
        users,
        recommendation_candidates,
        config,
    )
    return shortlist, report | {"seconds": round(time.perf_counter() - start, 1)}


def rank_candidates(
    base_llm: LanguageModel,
    adapter: str,
    prompt_template: str,
    shortlist: pl.DataFrame,
    shortlist_report: Report,
    sequences: Arrays,
    item_embeddings: Arrays,
    items: pl.DataFrame,
    users: pl.DataFrame,
    lens_config: dict[str, Any],
    lens_weights: dict[str, Tensor],
    history: HistoryConfig,
    prompt_config: PromptConfig,
    scoring: ScoringConfig,
    config: RecommendationConfig,
) -> tuple[pl.DataFrame, Report, list[dict[str, Any]]]:
    """Each user's best items by the LLM, the report of the whole step, and the first rows as a preview."""
    start = time.perf_counter()
    window = history.short[variant_histories()[config.variant]]
    assert window is not None
    ranker = ranking.Ranker(
        base_llm.with_model(load_adapter(base_llm.model, adapter)),
        load_lens(lens_config, lens_weights),
        Sequences(**sequences),
        item_embeddings["embeddings"],
        items,
        users,
        window,
        prompt_template,
        prompt_config,
        scoring.tokens_per_batch,
    )
    recommendations, pairs = ranking.rank_candidates(ranker, shortlist, items, config.top_n)
    seconds = round(shortlist_report["seconds"] + time.perf_counter() - start, 1)
    report = shortlist_report | {"pairs_scored": pairs, "seconds": seconds}
    return recommendations, report, presentation.preview_records(recommendations)


def show_recommendations(recommendations: pl.DataFrame, report: Report) -> None:
    """Print what the first users are recommended."""
    Console().print(presentation.recommendation_tables(recommendations, report))
