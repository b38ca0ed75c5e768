"""Nodes of the recommendation step."""

from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.recommend import candidates, recommendations
from reclora_kedro.recommend.config import RecommendationConfig
from reclora_kedro.rivals.neighbours import ItemNeighboursConfig

Report = dict[str, Any]


def shortlist_candidates(
    lens: Lens,
    log: InteractionLog,
    recommendation_candidates: Any,
    config: RecommendationConfig,
    neighbours: ItemNeighboursConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, pl.DataFrame, Report]:
    """Each user's best candidates by the lens, the questions about them, and counts of users without any."""
    shortlist, report = candidates.shortlist_candidates(
        lens, log, recommendation_candidates, config, neighbours, engine
    )
    return shortlist, candidates.candidate_questions(log, shortlist), report


def recommend(
    shortlist: pl.DataFrame, config: RecommendationConfig, scores: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, Report]:
    """Each user's best items by the scores of a variant, or else of the lens, and how many pairs the LLM scored."""
    report = {"pairs_scored": 0 if scores is None else scores.height}
    return recommendations.recommend(shortlist, scores, config.top_n), report


def show_recommendations(recommended: pl.DataFrame, shortlist_report: Report, report: Report) -> None:
    """Print what the first users are recommended."""
    show(recommendations.recommendation_tables(recommended, shortlist_report | report))
