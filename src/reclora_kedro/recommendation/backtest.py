"""Which method ranks best in each window of time, and whether the winner of one window can be believed in the next."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.config import CO_OCCURRENCE
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.progress import Progress
from reclora_kedro.recommendation.config import SECOND_STAGES, BacktestConfig, RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw, rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue, ranking_metrics
from reclora_kedro.recommendation.log_audit import audit_time
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.recommendation.windows import Window, day, windows_of

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.config import RetrieverConfig

LEARNED_ENCODERS = (CO_OCCURRENCE, "tuned_item_encoder")
"""Encoders of items that learn from likes of the training split, which windows may test."""


def run(
    log: InteractionLog,
    config: BacktestConfig,
    recommendation: RecommendationConfig,
    configs: Mapping[str, Any],
    bootstrap: Bootstrap,
    encoders: tuple[str, ...] = (),
    retriever: "tuple[RetrieverConfig, EngineConfig] | None" = None,
) -> tuple[Records, Records]:
    """Rank likes of each window by all methods, and audit the last one, see `window_metrics` and `audit_time`.

    Args:
        configs: the block of parameters of each source, by its name or dotted path.
        encoders: names of the encoders of the log's item embeddings.
        retriever: how it is trained before each window, if it is a source.

    Raises:
        ValueError: an encoder learned from likes that windows test; or see `windows_of`.
    """
    learned = [name for name in encoders if name in LEARNED_ENCODERS]
    if learned:
        raise ValueError(
            f"history.item_embedding.encoders names {learned[0]}, which learns from likes that windows test: name "
            "others, such as tfidf, and run history and backtest together."
        )
    metrics: list[Mapping[str, Any]] = []
    audited: Records = []
    train = None if retriever is None else partial(_trained, *retriever)
    with Progress("backtest", config.windows, "windows") as progress:
        for window in windows_of(log, config, recommendation, configs, train):
            if window.number > 0:
                metrics += window_metrics(window, rank_window(window, config), bootstrap)
                progress.update(1)
            if window.number == config.windows:
                audited = audit_time(window, config, bootstrap)
    return metrics, audited


def _trained(config: "RetrieverConfig", engine: EngineConfig, log: InteractionLog) -> dict[str, Any]:
    from reclora_kedro.candidates.next_item.training import fit_retriever

    return {"retriever": fit_retriever(log, config, engine)[0]}


def rank_window(window: Window, config: BacktestConfig) -> pl.DataFrame:
    """Rank likes of a window by all sources, the fusion and the ranker, see `rank_likes`.

    Where trees do not improve the fusion, the ranker is the fusion.
    """
    recommender, recommendation = window.recommender, window.recommender.config
    likes = draw(window.likes, config.likes, recommendation.seed)
    list_makers = {kind: recommender.list_maker(kind) for kind in (*recommender.sources, *SECOND_STAGES)}
    return rank_likes(list_makers, recommender.moments(likes), likes, recommendation.top_n)


def window_metrics(window: Window, ranks: pl.DataFrame, bootstrap: Bootstrap) -> Records:
    """Return a record per method: window, from, until (its first and last day), and `compute_ranking_metrics`."""
    models = ranks["model"].unique(maintain_order=True).to_list()
    catalogue = Catalogue.from_log(window.training.log, window.training.is_training_event)
    cutoff = (window.recommender.config.top_n,)
    records = compute_ranking_metrics(ranks, models, catalogue, cutoff, bootstrap, metrics=ranking_metrics())
    place = {"window": window.number, "from": day(window.start), "until": day(window.end - 1)}
    return [place | record for record in records]


def summarize_methods(metrics: Records) -> Records:
    """Return the means of each method over all windows, and the share of windows in which its NDCG is the highest.

    Examples:
        >>> ndcg = {("a", 1): 0.2, ("b", 1): 0.1, ("a", 2): 0.3, ("b", 2): 0.4}
        >>> metrics = [{"window": w, "model": m, "ndcg": v, "hit_rate": v, "k": 10} for (m, w), v in ndcg.items()]
        >>> summarize_methods(metrics)[0]
        {'model': 'a', 'k': 10, 'hit_rate': 0.25, 'ndcg': 0.25, 'share_of_windows_won': 0.5}
    """
    frame = pl.DataFrame(metrics).select("window", "model", "k", "hit_rate", "ndcg")
    won = (pl.col("ndcg") == pl.col("ndcg").max().over("window")).cast(pl.Float64)
    shared = won / won.sum().over("window")  # equal ones share a window
    by_method = frame.with_columns(share_of_windows_won=shared).group_by("model", maintain_order=True)
    means = by_method.agg(pl.col("k").first(), pl.col("hit_rate", "ndcg", "share_of_windows_won").mean())
    return means.to_dicts()


def follow_winners(metrics: Records) -> Records:
    """Compare each window with the one before it: whether the choice by the latest likes can be believed.

    Returns:
        Records of window, tau (Kendall's tau-b between the NDCG of all methods in both; None if all are equal), winner
        and ndcg (of the best method), winner_before (the best method of the window before) and ndcg_of_winner_before
        (in this window).

    Examples:
        >>> ndcg = {("a", 1): 0.2, ("b", 1): 0.1, ("a", 2): 0.3, ("b", 2): 0.4}
        >>> follow_winners([{"window": window, "model": model, "ndcg": v} for (model, window), v in ndcg.items()])
        [{'window': 2, 'tau': -1.0, 'winner': 'b', 'ndcg': 0.4, 'winner_before': 'a', 'ndcg_of_winner_before': 0.3}]
    """
    from scipy.stats import kendalltau

    by_window: dict[int, dict[str, float]] = {}
    for record in metrics:
        by_window.setdefault(record["window"], {})[record["model"]] = record["ndcg"]
    records = []
    for (_, before), (number, now) in pairwise(by_window.items()):
        tau = float(kendalltau([*before.values()], [now[model] for model in before]).statistic)
        winner, winner_before = max(now, key=now.__getitem__), max(before, key=before.__getitem__)
        records.append(
            {
                "window": number,
                "tau": None if np.isnan(tau) else tau,
                "winner": winner,
                "ndcg": now[winner],
                "winner_before": winner_before,
                "ndcg_of_winner_before": now[winner_before],
            }
        )
    return records
