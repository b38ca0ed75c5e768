"""Nodes of the ranking step."""

from typing import Any

import plotly.graph_objects as go
import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.baselines import registry as baselines
from reclora_kedro.baselines.linear import LinearConfig
from reclora_kedro.baselines.neighbours import ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity
from reclora_kedro.evaluation import figures, report
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.recommend import item_ranks as ranks
from reclora_kedro.recommend import ranker, ranking_metrics, reranking
from reclora_kedro.recommend.config import RankingConfig
from reclora_kedro.recommend.second_stage import SecondStage
from reclora_kedro.recommend.sources import NOTES
from reclora_kedro.retrievers.base import Retriever

Records = list[dict[str, Any]]


@reads(config=["users", "rows", "validation_likes", "candidates", "sampled", "shortlist", "cutoffs", "seed"])
def rank_items(
    log: InteractionLog,
    config: RankingConfig,
    neighbours: ItemNeighboursConfig,
    linear: LinearConfig,
    lens: Lens | None = None,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """Ranks of likes of the test split, questions about the neighbours' shortlists, and the learned second stage."""
    item_ranks, stage = ranks.rank_positives(log, config, {"neighbours": neighbours, "linear": linear}, lens, retriever)
    questions = reranking.reranking_questions(item_ranks, "neighbours", config.shortlist)
    return item_ranks, questions, stage.model_dump(mode="json")


def rerank_items(item_ranks: pl.DataFrame, ranking_scores: pl.DataFrame, config: RankingConfig) -> pl.DataFrame:
    """Where the variant ranks the same likes."""
    assert config.variant is not None  # else there were no scores
    return reranking.rerank(item_ranks, ranking_scores, "neighbours", config.shortlist, config.variant)


def compute_ranking_metrics(
    log: InteractionLog,
    config: RankingConfig,
    bootstrap: Bootstrap,
    item_ranks: pl.DataFrame,
    *of_variant: pl.DataFrame,
) -> Records:
    """Metrics of every model at every cutoff, and its NDCG beside that of the baseline."""
    return ranking_metrics.compute_ranking_metrics(
        pl.concat([item_ranks, *of_variant]),
        config.models if config.baseline is None else [config.baseline],
        Popularity(log).information(),
        config.cutoffs,
        bootstrap,
        config.among_first,
    )


def plot_ranking(metrics: Records) -> go.Figure:
    """Hit rate and NDCG of every model with their intervals."""
    return figures.plot_ranking(metrics, baselines.attributes("STYLE"))


def plot_hit_rates(*item_ranks: pl.DataFrame) -> go.Figure:
    """Hit rate of every model by the length of its list."""
    return figures.plot_hit_rates(ranking_metrics.hit_rate_curves(pl.concat(item_ranks)), baselines.attributes("STYLE"))


def plot_second_stage(second_stage: dict[str, Any]) -> go.Figure:
    """What the ranker's trees gain by each feature, and the weights of the fusion."""
    stage = SecondStage.model_validate(second_stage)
    return figures.plot_second_stage({} if stage.trees is None else ranker.importance(stage.trees), stage.weights or {})


def show_ranking(metrics: Records) -> None:
    show(report.ranking_tables(metrics, baselines.attributes("NOTE") | NOTES))
