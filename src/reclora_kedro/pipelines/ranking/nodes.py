"""Nodes of the ranking step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.evaluation import figures
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation import item_ranks, list_metrics, ranking_metrics, ranking_report
from reclora_kedro.recommendation.chosen import StoredChoice, models_of, stored_choice
from reclora_kedro.recommendation.config import RankingConfig, RecommendationConfig
from reclora_kedro.recommendation.ranking_metrics import BeyondAccuracyRow, RankingRow
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import NOTES
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.base import Lens


def rank_items(
    log: InteractionLog,
    candidate_choice: StoredChoice,
    config: RankingConfig,
    recommendation: RecommendationConfig,
    lens: Lens | None = None,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rank likes of the test split by all methods; return ranks, and questions about the chosen method's shortlists.

    All have learned from the training events; `recommendation.protocol` says what else they know.
    """
    chosen = stored_choice(candidate_choice)
    training = Training.from_split(log, retriever=retriever)
    reader = None if lens is None else item_ranks.lens_reader(lens, log, recommendation.protocol)
    recommender = FittedRecommender.from_choice(training, chosen, recommendation, reader).as_measured(training)
    ranks = item_ranks.rank_test_likes(recommender, config, reader if config.lens else None)
    questions = item_ranks.reranking_questions(ranks, chosen.name, recommendation.shortlist)
    return ranks, questions


def rerank_items(
    ranks: pl.DataFrame,
    ranking_scores: pl.DataFrame,
    candidate_choice: StoredChoice,
    config: RankingConfig,
    recommendation: RecommendationConfig,
) -> pl.DataFrame:
    """Rank the same likes by the variant, in the chosen method's shortlists, as it does in recommendations."""
    assert config.variant is not None  # else there were no scores
    first = stored_choice(candidate_choice).name
    return item_ranks.rerank(ranks, ranking_scores, first, recommendation.shortlist, config.variant)


def compute_ranking_metrics(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> list[RankingRow]:
    """Return the metrics of every model at every cutoff, and differences of NDCG from the baseline's."""
    models = ranks["model"].unique(maintain_order=True).to_list() if config.baseline is None else [config.baseline]
    catalogue, together = list_metrics.Catalogue.from_log(log), pl.concat([ranks, *of_variant])
    settings = (config.cutoffs, bootstrap, config.among_first, list_metrics.ranking_metrics())
    return ranking_metrics.compute_ranking_metrics(together, models, catalogue, *settings)


def compute_beyond_accuracy(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> list[BeyondAccuracyRow]:
    """Return the metrics beyond accuracy of every model's lists, for all likes and by segments of them."""
    together = pl.concat([ranks, *of_variant])
    return ranking_metrics.compute_beyond_accuracy(together, log, config.cutoffs, bootstrap)


def plot_ranking(
    metrics: Sequence[RankingRow], candidate_choice: StoredChoice, *ranks: pl.DataFrame
) -> tuple[go.Figure, go.Figure, go.Figure]:
    """Plot hit rate and NDCG of every model, its hit rate by the length of the list, and the second stage."""
    styles = {name: model.STYLE for name, model in models_of(candidate_choice["sources"]).items()}
    curves = ranking_metrics.hit_rate_curves(pl.concat(ranks))
    second_stage = stored_choice(candidate_choice).stage.figure()
    return figures.plot_ranking(metrics, styles), figures.plot_hit_rates(curves, styles), second_stage


def write_ranking_report(
    metrics: Sequence[RankingRow],
    beyond_accuracy: Sequence[BeyondAccuracyRow],
    candidate_choice: StoredChoice,
    **drawn: go.Figure,
) -> str:
    """Render all results as one HTML page."""
    return ranking_report.render_ranking(metrics, beyond_accuracy, drawn, _notes(candidate_choice))


def show_ranking(
    metrics: Sequence[RankingRow], beyond_accuracy: Sequence[BeyondAccuracyRow], candidate_choice: StoredChoice
) -> None:
    """Print the ranking metrics."""
    show(ranking_report.ranking_tables(metrics, beyond_accuracy, _notes(candidate_choice)))


def _notes(candidate_choice: StoredChoice) -> dict[str, str]:
    return {name: model.NOTE for name, model in models_of(candidate_choice["sources"]).items()} | NOTES
