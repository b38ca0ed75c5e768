"""Nodes of the ranking step."""

from typing import Any

import plotly.graph_objects as go
import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.baselines.linear import LinearConfig
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig
from reclora_kedro.baselines.registry import attributes
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.evaluation import figures, ranking_metrics, report
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.recommendation import beyond_accuracy, reranking
from reclora_kedro.recommendation import item_ranks as ranks
from reclora_kedro.recommendation.config import RANKED, RankingConfig
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.sources import NOTES
from reclora_kedro.terminal import show

Records = list[dict[str, Any]]


@reads(
    config=["users", "rows", "validation_likes", "baselines", "candidates", "sampled", "shortlist", "cutoffs", "seed"]
)
def rank_items(
    log: InteractionLog,
    config: RankingConfig,
    neighbours: ItemNeighboursConfig,
    linear: LinearConfig,
    popularity: PopularityConfig,
    lens: Lens | None = None,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """Rank likes of the test split; return ranks, questions about the shortlists, and the second stage."""
    item_ranks, stage = ranks.rank_positives(
        log, config, {"neighbours": neighbours, "linear": linear, "popularity": popularity}, lens, retriever
    )
    questions = reranking.reranking_questions(item_ranks, "neighbours", config.shortlist)
    return item_ranks, questions, stage.model_dump(mode="json")


def rerank_items(item_ranks: pl.DataFrame, ranking_scores: pl.DataFrame, config: RankingConfig) -> pl.DataFrame:
    """Rank the same likes by the variant."""
    assert config.variant is not None  # else there were no scores
    return reranking.rerank(item_ranks, ranking_scores, "neighbours", config.shortlist, config.variant)


def compute_ranking_metrics(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    item_ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> Records:
    """Return the metrics of every model at every cutoff, and differences of NDCG from the baseline's."""
    return ranking_metrics.compute_ranking_metrics(
        pl.concat([item_ranks, *of_variant]),
        config.models if config.baseline is None else [config.baseline],
        Popularity(log).information(),
        config.cutoffs,
        bootstrap,
        config.among_first,
    )


def compute_beyond_accuracy(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    item_ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> Records:
    """Return the metrics beyond accuracy of every model's lists, for all likes and by segments of them."""
    ranks = pl.concat([item_ranks, *of_variant])
    return beyond_accuracy.compute_beyond_accuracy(ranks, log, config.cutoffs, bootstrap)


def plot_ranking(metrics: Records, baselines: list[str]) -> go.Figure:
    """Plot hit rate and NDCG of every model with their intervals."""
    return figures.plot_ranking(metrics, attributes("STYLE", (*RANKED, *baselines)))


def plot_hit_rates(baselines: list[str], *item_ranks: pl.DataFrame) -> go.Figure:
    """Plot the hit rate of every model by the length of its list."""
    curves = ranking_metrics.hit_rate_curves(pl.concat(item_ranks))
    return figures.plot_hit_rates(curves, attributes("STYLE", (*RANKED, *baselines)))


def plot_second_stage(second_stage: dict[str, Any]) -> go.Figure:
    """Plot the gain of the ranker's trees by feature, and the weights of the fusion."""
    return SecondStage.model_validate(second_stage).figure()


def write_ranking_report(metrics: Records, beyond_accuracy: Records, baselines: list[str], **figures: go.Figure) -> str:
    """Render all results as one HTML page."""
    return report.render_ranking(metrics, beyond_accuracy, figures, _notes(baselines))


def show_ranking(metrics: Records, beyond_accuracy: Records, baselines: list[str]) -> None:
    """Print the ranking metrics."""
    show(report.ranking_tables(metrics, beyond_accuracy, _notes(baselines)))


def _notes(baselines: list[str]) -> dict[str, str]:
    return attributes("NOTE", (*RANKED, *baselines)) | NOTES
