"""Which method ranks best in each window of time, and whether the winner of one window can be believed in the next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypedDict, cast

import numpy as np
import polars as pl
from pydantic import JsonValue

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.config import CO_OCCURRENCE
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import Sequences, places_of
from reclora_kedro.progress import Progress
from reclora_kedro.recommendation.chosen import Choice, Configs
from reclora_kedro.recommendation.config import SECOND_STAGES, BacktestConfig, RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw, rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue, ranking_metrics
from reclora_kedro.recommendation.ranking_metrics import RankingRow, compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.windows import Train, Window, day, windows_of

LEARNED_ENCODERS = (CO_OCCURRENCE, "tuned_item_encoder")
"""Encoders of items that learn from likes of the training split, which windows may test."""
IN_ORDER, SHUFFLED = "in order", "shuffled"
READS_ORDER = {"recency": 0.8, "transition_weight": 1.0, "directed": True}
"""Settings of a linear model that reads the order of a history."""
DAYS = (7, 30, 365)  # of popularity
LEAST_TIES = 20  # of which the order is told


Bounds = TypedDict("Bounds", {"window": int, "from": str, "until": str})
"""The number of a window, from 1, and its first and last day."""


class WindowRow(RankingRow, Bounds):
    """Metrics of a method in a window."""


class MethodRow(TypedDict):
    """Means of a method over all windows."""

    model: str
    k: int
    hit_rate: float
    ndcg: float
    share_of_windows_won: float  # in which its NDCG is the highest


class WinnerRow(TypedDict):
    """What the best method of a window was worth in the next one."""

    window: int  # the next one
    tau: float | None  # Kendall's tau-b between the NDCG of all methods in both; None if all are equal
    winner: str
    ndcg: float
    winner_before: str
    ndcg_of_winner_before: float  # in the next one


class AuditRow(TypedDict):
    """A check of a log, the ends of its interval, if any, and how to read it."""

    check: str
    value: float | None
    low: float | None
    high: float | None
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Ranks likes of windows of time by all methods, which are fitted before each."""

    log: InteractionLog
    config: BacktestConfig
    recommendation: RecommendationConfig
    configs: Configs  # of the sources
    bootstrap: Bootstrap
    encoders: tuple[str, ...] = ()  # of the items' embeddings
    train: Train | None = None  # trains the retriever before each window, if it is a source

    def run(self) -> tuple[list[WindowRow], list[AuditRow]]:
        """Return the metrics of all windows, and the audit of the last one; see `windows_of` for Faults."""
        if learned := [name for name in self.encoders if name in LEARNED_ENCODERS]:
            raise Fault(
                Parameter("history.item_embedding.encoders"),
                f"names {learned[0]}, which learns from likes in the test windows",
                advice="Name others, such as tfidf, and run history and backtest together",
            )
        config, metrics, audited = self.config, list[WindowRow](), list[AuditRow]()
        with Progress("backtest", config.windows, "windows") as progress:
            for window in windows_of(self.log, config, self.recommendation, self.configs, self.train):
                if window.number > 0:
                    metrics += window_metrics(window, rank_window(window, config), self.bootstrap)
                    progress.update(1)
                if window.number == config.windows:
                    audited = audit_time(window, config, self.bootstrap)
        return metrics, audited


def rank_window(window: Window, config: BacktestConfig) -> pl.DataFrame:
    """Rank likes of a window by all sources, the fusion and the ranker, see `rank_likes`.

    Where trees do not improve the fusion, the ranker is the fusion.
    """
    recommender, recommendation = window.recommender, window.recommender.config
    likes = draw(window.likes, config.likes, recommendation.seed)
    list_makers = {kind: recommender.list_maker(kind) for kind in (*recommender.sources, *SECOND_STAGES)}
    return rank_likes(list_makers, recommender.moments(likes), likes, recommendation.top_n)


def window_metrics(window: Window, ranks: pl.DataFrame, bootstrap: Bootstrap) -> list[WindowRow]:
    models = ranks["model"].unique(maintain_order=True).to_list()
    catalogue = Catalogue.from_log(window.training.log, window.training.is_training_event)
    cutoff = (window.recommender.config.top_n,)
    records = compute_ranking_metrics(ranks, models, catalogue, cutoff, bootstrap, metrics=ranking_metrics())
    bounds: Bounds = {"window": window.number, "from": day(window.start), "until": day(window.end - 1)}
    return [cast(WindowRow, {**bounds, **record}) for record in records]


def summarize_methods(metrics: Sequence[WindowRow]) -> list[MethodRow]:
    """Summarize the metrics of all windows.

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
    return cast(list[MethodRow], means.to_dicts())


def follow_winners(metrics: Sequence[WindowRow]) -> list[WinnerRow]:
    """Compare each window with the one before it: whether the choice by the latest likes can be believed.

    Examples:
        >>> ndcg = {("a", 1): 0.2, ("b", 1): 0.1, ("a", 2): 0.3, ("b", 2): 0.4}
        >>> follow_winners([{"window": window, "model": model, "ndcg": v} for (model, window), v in ndcg.items()])
        [{'window': 2, 'tau': -1.0, 'winner': 'b', 'ndcg': 0.4, 'winner_before': 'a', 'ndcg_of_winner_before': 0.3}]
    """
    from scipy.stats import kendalltau

    by_window: dict[int, dict[str, float]] = {}
    for record in metrics:
        by_window.setdefault(record["window"], {})[record["model"]] = record["ndcg"]
    records = list[WinnerRow]()
    for (_, before), (number, now) in pairwise(by_window.items()):
        tau = float(kendalltau([*before.values()], [now[model] for model in before]).statistic)
        winner, winner_before = max(now, key=now.__getitem__), max(before, key=before.__getitem__)
        of_both = {"winner_before": winner_before, "ndcg_of_winner_before": now[winner_before]}
        of_window = {"window": number, "tau": None if np.isnan(tau) else tau, "winner": winner, "ndcg": now[winner]}
        records.append(cast(WinnerRow, of_window | of_both))
    return records


def audit_ties(interactions: pl.LazyFrame) -> list[AuditRow]:
    """Return the share of likes with another event of their user in the same second, and of ties in the order of ids.

    Canonical interactions of one user and second are in the order of the raw log.

    Examples:
        >>> columns = {"user_id": [1, 1, 1, 2], "item_id": [5, 7, 6, 5], "timestamp": [3, 3, 3, 9]}
        >>> rows = pl.LazyFrame(columns | {"rating": [5.0, 5.0, 1.0, 5.0], "label": [1, 1, 0, 1]})
        >>> [record["value"] for record in audit_ties(pl.concat([rows] * 30))]
        [0.6666666666666666, 0.5]
    """
    events = interactions.filter(pl.col("rating").is_not_null())
    same = [pl.col(name) == pl.col(name).shift(1) for name in ("user_id", "timestamp")]
    is_tied = (same[0] & same[1]).fill_null(False)
    after = is_tied.shift(-1, fill_value=False)
    ascends = pl.col("item_id") > pl.col("item_id").shift(1)
    of_likes = (is_tied | after).filter(pl.col("label") == 1).mean()
    shares = events.select(likes=of_likes, order=ascends.filter(is_tied).mean(), ties=is_tied.sum())
    likes, order, ties = shares.collect().row(0)
    to_read = "0.5: random order; near 0 or 1: sorted by id, which a model could exploit with history.ties: order"
    order = order if ties >= LEAST_TIES else None
    return [
        _row("likes in the same second as another event of their user", "their order in it is unknown", likes),
        _row("events in the same second as the row before whose item id is greater", to_read, order),
    ]


def audit_time(window: Window, config: BacktestConfig, bootstrap: Bootstrap) -> list[AuditRow]:
    """Return the NDCG of a window's likes by a model that reads histories in order or shuffled, and by popularity.

    Histories are shuffled where the model reads them, not where it learns (after Klenitskiy et al., Does it look
    sequential?, RecSys 2024).
    """
    k = window.recommender.config.top_n
    likes = draw(window.likes, config.likes, window.recommender.config.seed)
    settings = window.recommender.choice.sources.get("linear", {}) | READS_ORDER
    linear, random = _alone(window, "linear", settings), np.random.default_rng(window.recommender.config.seed)
    ranks = []
    for model, shuffles in ((IN_ORDER, False), (SHUFFLED, True)):
        recommender, requests = with_own_histories(linear, likes, random if shuffles else None)
        ranks.append(rank_likes({model: recommender.list_maker("linear")}, recommender.moments(requests), likes, k))
    for length in (None, *DAYS):
        name = "ever" if length is None else f"in the last {length:g} days"
        popular = _alone(window, "popularity", {"days": length}).as_of_each_moment(window.training)
        ranks.append(rank_likes({name: popular.list_maker("popularity")}, popular.moments(likes), likes, k))
    catalogue = Catalogue.from_log(window.training.log, window.training.is_training_event)
    measured = compute_ranking_metrics(pl.concat(ranks), [IN_ORDER], catalogue, (k,), bootstrap)
    in_order, shuffled, *popularity = measured
    change = (shuffled["ndcg_difference"], shuffled["ndcg_difference_low"], shuffled["ndcg_difference_high"])
    most_liked = ((f"NDCG@{k} of the items most liked {record['model']}", record["ndcg"]) for record in popularity)
    return [
        _row(f"NDCG@{k} of a linear model that reads the order of events", "with histories in order", in_order["ndcg"]),
        _row("change of this NDCG with shuffled histories", "near 0: the order carries no information", *change),
        *(_row(check, "as of each like", value) for check, value in most_liked),
    ]


def with_own_histories(
    recommender: FittedRecommender, likes: pl.DataFrame, random: np.random.Generator | None
) -> tuple[FittedRecommender, pl.DataFrame]:
    """Return a recommender that reads each like's history, shuffled or not, as a user's own, and the moments."""
    events, user, end = recommender.log.sequences, likes["user_index"].to_numpy(), likes["history_end"].to_numpy()
    start = events.starts[user]
    places, offsets = places_of(start, end), np.append(0, (end - start).cumsum())
    columns = {name: values[places] for name, values in events.columns.items()}
    if random is not None:
        row = np.repeat(np.arange(len(end)), end - start)
        columns["item_index"] = columns["item_index"][np.lexsort((random.random(len(row)), row))]
    own = replace(recommender.log, sequences=Sequences.from_columns(offsets, events.schema, **columns))
    rows = pl.Series(np.arange(len(end)), dtype=pl.Int32)
    return replace(recommender, log=own), likes.with_columns(user_index=rows, history_end=pl.Series(offsets[1:]))


def _alone(window: Window, source: str, settings: dict[str, JsonValue]) -> FittedRecommender:
    choice = Choice(kind=source, order="candidates", sources={source: settings})
    return FittedRecommender.from_choice(window.training, choice, window.recommender.config)


def _row(
    check: str, meaning: str, value: float | None, low: float | None = None, high: float | None = None
) -> AuditRow:
    return AuditRow(check=check, value=value, low=low, high=high, meaning=meaning)
