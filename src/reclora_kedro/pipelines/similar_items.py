"""Find the items similar to each item, and measure how well they predict the next one; on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from kedro.pipeline import Pipeline

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import named, node, step
from reclora_kedro.recommendation.chosen import StoredChoice, labels, stored_choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.delivery import without_samples
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import RankingRow, compute_ranking_metrics
from reclora_kedro.recommendation.ranking_report import methods_table
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.visitors import rank_next_items, similar_items
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever


def find_similar_items(
    log: InteractionLog,
    candidate_choice: StoredChoice,
    config: RecommendationConfig,
    learned_weights: Mapping[str, np.ndarray],
    engine: EngineConfig,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the best items for who took an item alone, of each item, twice: for parquet and for CSV."""
    training = Training.from_log(without_samples(log), retriever=retriever, learned=learned_weights, engine=engine)
    fitted = FittedRecommender.from_choice(training, stored_choice(candidate_choice).without_lens, config)
    found = similar_items(fitted, np.arange(log.items.height), config.top_n)
    return found, found


def measure_similar_items(
    log: InteractionLog,
    candidate_choice: StoredChoice,
    config: RecommendationConfig,
    bootstrap: Bootstrap,
    engine: EngineConfig,
    retriever: Retriever | None = None,
) -> list[RankingRow]:
    """Rank as many likes of the test split as choose the method among the items similar to what was taken before."""
    training = Training.from_split(log, retriever=retriever, engine=engine)
    fitted = FittedRecommender.from_choice(training, stored_choice(candidate_choice).without_lens, config)
    likes = draw_positives(log, "test", config.validation_likes, config.seed, fitted.rules)
    ranks = rank_next_items(fitted.as_measured(training), likes, config.top_n)
    methods = ranks["model"].unique(maintain_order=True).to_list()
    catalogue = Catalogue.from_log(log, training.is_training_event)
    return compute_ranking_metrics(ranks, methods, catalogue, (config.top_n,), bootstrap)


def show_similar_items(metrics: Sequence[RankingRow], candidate_choice: StoredChoice) -> None:
    """Print how well each method's similar items predict the next item."""
    chosen = stored_choice(candidate_choice).without_lens
    heading = "How well similar items predict the next item: share of {rows:,} test likes among the first {k}"
    show(methods_table(metrics, chosen.name, labels(chosen.sources), heading))


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Find and measure similar items by the chosen method."""
    read = named("log", "candidate_choice", *names.retriever, config="params:recommendation", engine="params:engine")
    measured = read | named(bootstrap="params:bootstrap")
    return step(
        "similar_items",
        node(find_similar_items, read | named("learned_weights"), ["similar_items", "similar_items_csv"]),
        node(measure_similar_items, measured, "similar_items_metrics"),
        node(show_similar_items, named("candidate_choice", metrics="similar_items_metrics"), None),
    )
