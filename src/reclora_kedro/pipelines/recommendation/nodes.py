"""Nodes of the recommendation step."""

from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.report import ranking_tables
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.recommend import candidates, orders, recommendations
from reclora_kedro.recommend.config import RecommendationConfig
from reclora_kedro.rivals.neighbours import ItemNeighboursConfig

Report = dict[str, Any]
Records = list[dict[str, Any]]


def shortlist_candidates(
    lens: Lens,
    log: InteractionLog,
    recommendation_candidates: Any,
    config: RecommendationConfig,
    neighbours: ItemNeighboursConfig,
    bootstrap: Bootstrap,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, pl.DataFrame, Records, Report]:
    """Each user's best candidates, the questions about them, why they have their order, and counts of users without."""
    table = candidates.candidate_table(recommendation_candidates) if config.candidates == "table" else None
    compared = orders.compare_orders(lens, log, config, neighbours, bootstrap) if config.validates_order else []
    order = orders.chosen_order(compared, config)
    shortlist, report = candidates.shortlist_candidates(lens, log, table, config, neighbours, order, engine)
    return shortlist, candidates.candidate_questions(log, shortlist), compared, report


def recommend(
    shortlist: pl.DataFrame, config: RecommendationConfig, scores: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, Report]:
    """Each user's best items by the scores of a variant, or as they come, and how many pairs the LLM scored."""
    report = {"pairs_scored": 0 if scores is None else scores.height}
    return recommendations.recommend(shortlist, scores, config.top_n), report


def show_recommendations(
    recommended: pl.DataFrame, candidate_orders: Records, shortlist_report: Report, report: Report
) -> None:
    """Print how the order was chosen, and what the first users are recommended."""
    if candidate_orders:
        show(ranking_tables(candidate_orders, {}))
    show(recommendations.recommendation_tables(recommended, shortlist_report | report))
