"""What a log's figures may rest on: ties, the order of rows, sequence, and time."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.sequences import Sequences, places_of
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import BacktestConfig
from reclora_kedro.recommendation.item_ranks import draw, rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.windows import Window

IN_ORDER, SHUFFLED = "in order", "shuffled"
READS_ORDER = {"recency": 0.8, "transition_weight": 1.0, "directed": True}
"""Settings of a linear model that reads the order of a history."""
DAYS = (7, 30, 365)  # of popularity
LEAST_TIES = 20  # of which the order is told


def audit_ties(interactions: pl.LazyFrame) -> Records:
    """Return the share of likes with another event of their user in the same second, and of ties in the order of ids.

    Args:
        interactions: canonical, whose rows of one user and second are in the order of the raw log.

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
    shares = events.select(
        likes=(is_tied | after).filter(pl.col("label") == 1).mean(),
        order=ascends.filter(is_tied).mean(),
        ties=is_tied.sum(),
    )
    likes, order, ties = shares.collect().row(0)
    return [
        _record("likes of a second with another event of their user", likes, "their order in that second is unknown"),
        _record(
            "events of one second whose item id is above that of the row before",
            order if ties >= LEAST_TIES else None,
            "0.5: no order; near 1: sorted by id, which history.ties: order would read",
        ),
    ]


def audit_time(window: Window, config: BacktestConfig, bootstrap: Bootstrap) -> Records:
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
    difference = (shuffled["ndcg_difference"], shuffled["ndcg_difference_low"], shuffled["ndcg_difference_high"])
    return [
        _record(f"NDCG@{k} of a linear model that reads the order of events", in_order["ndcg"], "histories in order"),
        _record(
            "the same with shuffled histories, less that in order",
            difference[0],
            "near 0: no sequence",
            *difference[1:],
        ),
        *(
            _record(f"NDCG@{k} of the items most liked {record['model']}", record["ndcg"], "before each like")
            for record in popularity
        ),
    ]


def with_own_histories(
    recommender: FittedRecommender, likes: pl.DataFrame, random: np.random.Generator | None
) -> tuple[FittedRecommender, pl.DataFrame]:
    """Return a recommender that reads each like's history as that of a user of its own, and the moments to ask it at.

    Args:
        random: shuffles the items of each history; None to keep their order.
    """
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


def _alone(window: Window, source: str, settings: dict[str, Any]) -> FittedRecommender:
    choice = Choice(kind=source, order="candidates", sources={source: settings})
    return FittedRecommender.from_choice(window.training, choice, window.recommender.config)


def _record(check: str, value: float | None, meaning: str, low: float | None = None, high: float | None = None) -> Any:
    return {"check": check, "value": value, "low": low, "high": high, "meaning": meaning}
