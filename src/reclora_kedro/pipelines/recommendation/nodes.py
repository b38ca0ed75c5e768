"""Nodes of the recommendation step."""

from functools import partial
from typing import Any

import polars as pl

from reclora_kedro.baselines.linear import LinearConfig
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import PopularityConfig
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.report import ranking_table
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.recommendation import candidates, choice, recommendations
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.sources import SourceSettings, current_source
from reclora_kedro.terminal import show

Report = dict[str, Any]
Records = list[dict[str, Any]]


def shortlist_candidates(
    lens: Lens,
    log: InteractionLog,
    recommendation_candidates: Any,
    config: RecommendationConfig,
    neighbours: ItemNeighboursConfig,
    linear: LinearConfig,
    popularity: PopularityConfig,
    bootstrap: Bootstrap,
    engine: EngineConfig,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, Report, Records, Report]:
    """Return each user's best candidates with reasons, questions about them, the choice, its metrics, and counts."""
    table = candidates.candidate_table(recommendation_candidates) if config.candidates == "table" else None
    settings = SourceSettings(popularity, neighbours, linear, config.exact_items)
    chosen, compared = choice.choose(lens, log, retriever, config, settings, bootstrap)
    source = partial(current_source, chosen, settings, retriever, lens) if config.sources else None
    shortlist, report = candidates.shortlist_candidates(
        lens, log, table, config, chosen.kind, chosen.order, source, engine
    )
    questions = candidates.candidate_questions(log, shortlist)
    shortlist = recommendations.with_reasons(shortlist, log, ItemNeighbours(log, chosen.neighbours or neighbours))
    return shortlist, questions, chosen.model_dump(mode="json"), compared, report


def recommend(
    shortlist: pl.DataFrame,
    config: RecommendationConfig,
    scores: pl.DataFrame | None = None,
    log: InteractionLog | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, Report]:
    """Return each user's best items, also as lines of text, and the number of pairs that a variant scored.

    A log is given if `config.diversity` compares its items.
    """
    report = {"pairs_scored": 0 if scores is None else scores.height}
    vectors = None if log is None else log.item_text_vectors()
    recommended = recommendations.recommend(shortlist, scores, config.top_n, config.diversity, vectors)
    return recommended, recommendations.as_lines(recommended), report


def show_recommendations(
    recommended: pl.DataFrame, candidate_metrics: Records, shortlist_report: Report, report: Report
) -> None:
    """Print how the candidates were chosen, and the recommendations of one user."""
    if candidate_metrics:
        show(ranking_table(candidate_metrics))
    show(recommendations.recommendation_tables(recommended, shortlist_report | report))
