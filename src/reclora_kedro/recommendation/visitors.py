"""Visitors, who are in no log: what they took is theirs alone; and similar items, the lists of those who took one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from polars import selectors

from kedro_provenance.errors import Fault, Value
from reclora_kedro.candidates.moments import NO_ITEM, NOTHING, Lists
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sent_events import distinct_events, sent_columns, sent_rating, sent_second
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.ids import listed
from reclora_kedro.ingestion.raw_tables import as_polars
from reclora_kedro.recommendation.delivery import Delivery, VisitorList
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.recommender import FittedRecommender

OF_VISITORS = "each visitor has a list of ids of items", "Write histories=[[1, 2]] for one visitor, who took two"


def with_visitors(
    recommender: FittedRecommender,
    histories: Sequence[Any],
    last_seconds: np.ndarray | None = None,
    ingestion: IngestionConfig | None = None,
) -> tuple[FittedRecommender, pl.DataFrame]:
    """Add visitors to the log of a recommender; models stay as they are.

    A history has ids of items, or mappings or a table with item_id and any of rating, clicked, timestamp and the
    declared columns, read as the ingestion says. Without a rating, an event has the highest one. Without times, events
    are in order, and the last ones are at seconds of the log's clock, (visitors,), by default the newest of all.

    Returns:
        The recommender, and the visitors' user_id (their places among the histories) and user_index.
    """
    if hasattr(histories, "columns") or isinstance(histories, str | Mapping) or not isinstance(histories, Iterable):
        raise Fault("histories", f"is of type {type(histories).__name__}", *OF_VISITORS)
    log, events, histories = recommender.log, recommender.log.sequences, [*histories]
    sent = _events_of_visitors(log, histories, ingestion)
    lengths = np.bincount(sent["user"], minlength=len(histories))
    # One event per second, as they are in order; without a shared clock, the first one has 1.
    if last_seconds is None:
        last_seconds = np.full(len(histories), log.last_second) if log.shared_clock else lengths
    seconds = [np.arange(end - length + 1, end + 1) for end, length in zip(last_seconds, lengths, strict=True)]
    best = events.rating.argmax()
    ratings = events
    if sent["rating"].is_null().all():  # without a look at all ratings of a long log
        columns = {name: getattr(events, name)[[best]] for name in ("rating", "rating_level")}
        ratings = Sequences.from_columns(np.array([0, 1]), events.schema, **columns)
    rating = sent["rating"].fill_null(events.rating[best].item()).to_list()
    schema, new = sent_columns(rating, sent["columns"].to_list(), events.schema, ratings, ingestion)
    new |= {name: sent[name].to_numpy() for name in ("user", "item_index")}
    new["timestamp"] = np.where(
        sent["second"].is_null(), np.concatenate([NOTHING, *seconds]), sent["second"].fill_null(0)
    )
    kept = distinct_events(new, schema, -1 if ingestion is not None and ingestion.duplicates == "lowest_rating" else 1)
    columns = {name: np.append(column, new[name][kept].astype(column.dtype)) for name, column in events.columns.items()}
    lengths = np.bincount(new["user"][kept], minlength=len(histories))
    offsets = np.concatenate([events.offsets, events.offsets[-1] + lengths.cumsum()])
    grown = replace(log, sequences=Sequences.from_columns(offsets, schema, **columns))
    vars(grown)["last_second"] = log.last_second  # the time of one visitor is not that of others
    places = pl.int_range(len(histories), eager=True).alias("user_id")
    visitors = places.to_frame().with_columns(user_index=(places + log.users.height).cast(pl.Int32))
    return replace(recommender, log=grown), visitors


def list_of_visitor(recommender: FittedRecommender, n: int) -> VisitorList:
    """Return the list of a visitor who took the three items with most events: it shows the taste of no user."""
    log = recommender.log
    events = np.bincount(log.sequences.item_index, minlength=log.items.height)
    visitor_events = log.items[np.argsort(-events, kind="stable")[:3]]
    visited, visitors = with_visitors(recommender, [visitor_events["item_id"].to_list()])
    lists = Delivery(recommender=visited, limit=n)(visitors).with_row_index("rank", offset=1)
    return {"taken": visitor_events["title"].to_list(), "list": lists.select("rank", "title", "because").to_dicts()}


def _events_of_visitors(
    log: InteractionLog, histories: Sequence[Any], ingestion: IngestionConfig | None
) -> pl.DataFrame:
    """Return user (place among the histories), item_index, rating, second and columns (JSON) of events of known items.

    Rating and second are null where an event has none.
    """
    ids, sent = list[pl.Series](), list[tuple[int, float | None, int | None, str | None]]()
    for place, history in enumerate(histories):
        if hasattr(history, "columns"):
            table = as_polars(history, f"histories[{place}]")
            history = table.with_columns((selectors.date() | selectors.datetime()).dt.epoch("s")).to_dicts()
        if isinstance(history, str | bytes | Mapping) or not isinstance(history, Iterable):
            raise Fault(f"histories[{place}]", ("is ", Value(history)), *OF_VISITORS)
        if isinstance(history, Sequence) and any(isinstance(each, Mapping) for each in history):
            told = [dict(each) if isinstance(each, Mapping) else {"item_id": each} for each in history]
            history = [each.pop("item_id", None) for each in told]
            own = [_sent(log, each, f"histories[{place}][{n}].", ingestion) for n, each in enumerate(told)]
            if 0 < (timed := sum(second is not None for _, second, _ in own)) < len(own):
                found = f"has times of {timed} of its {len(own)} events"
                raise Fault(
                    f"histories[{place}]", found, "all have one, or they are in order", "Give a timestamp to all"
                )
            sent += ((place, *event) for event in own)
        ids.append(listed(history, "item_id", f"histories[{place}]"))
        sent += [(place, None, None, None)] * (sum(map(len, ids)) - len(sent))
    items = log.find_items(pl.concat([pl.Series(dtype=pl.String), *ids]), "histories").alias("item_index")
    types = {"user": pl.Int64, "rating": pl.Float64, "second": pl.Int64, "columns": pl.String}
    events = pl.DataFrame(sent, types, orient="row").with_columns(items).drop_nulls("item_index")
    return events.filter(pl.col("rating").is_not_nan().fill_null(True))


def _sent(
    log: InteractionLog, values: dict[str, Any], event: str, ingestion: IngestionConfig | None
) -> tuple[float | None, int | None, str | None]:
    """Return rating, second and declared columns (JSON) of an event, None for what is missing; NaN if not clicked."""
    rating, clicked, second = (values.pop(name, None) for name in ("rating", "clicked", "timestamp"))
    if ingestion is not None and (rating is not None or clicked is not None):
        rating = sent_rating(ingestion, rating, clicked, event)
        rating = np.nan if rating is None else rating
    if ingestion is not None and second is not None:
        second = sent_second(second, ingestion, f"{event}timestamp")
    return rating, second, log.sequences.schema.text(values, event)


def similar_items(recommender: FittedRecommender, items: np.ndarray, n: int) -> pl.DataFrame:
    """Return the list of a visitor who took an item alone, for each of some items, by index.

    Returns:
        Frame with item_id, rank (from 1), similar_id, title and score, in the order of the items.
    """
    of_items = recommender.log.items
    visited, visitors = with_visitors(recommender, [[item] for item in of_items["item_id"][items]])
    lists = lists_after_one(visited, visitors["user_index"], n)
    row, place = np.nonzero(lists.items != NO_ITEM)
    found = lists.items[row, place]
    return pl.DataFrame(
        {
            "item_id": of_items["item_id"][items[row]],
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "similar_id": of_items["item_id"][found],
            "title": of_items["title"][found],
            "score": pl.Series(lists.scores[row, place]).fill_nan(None),
        }
    )


def lists_after_one(recommender: FittedRecommender, visitors: pl.Series, n: int) -> Lists:
    """Return the lists of visitors now, by index; without the lens, as item models know which items belong together."""
    recommender = replace(recommender, choice=recommender.choice.without_lens, lens=None)
    moments = recommender.moments(recommender.log.now(visitors.to_frame("user_index")), repeat=False)
    return recommender.best_lists(moments, n)


def rank_next_items(recommender: FittedRecommender, likes: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Rank the item of each like among those similar to the item that its user took before, see `rank_likes`.

    Each method is asked at the like's moment, and of what the user took knows that item alone.
    """
    log, events = recommender.log, recommender.log.sequences
    before = likes["history_end"].to_numpy() - 1
    has_one = before >= events.starts[likes["user_index"].to_numpy()]
    likes, before = likes.filter(has_one), before[has_one]
    given = log.items["item_id"][events.item_index[before]]
    visited, visitors = with_visitors(recommender, [[item] for item in given], events.timestamp[before])
    ends = visited.log.sequences.ends[visitors["user_index"].to_numpy()]
    asked = likes.with_columns(visitors["user_index"], history_end=pl.Series(ends, dtype=likes.schema["history_end"]))
    ranks = rank_likes(visited.list_makers("candidates"), visited.moments(asked, repeat=False), asked, limit)
    return ranks.drop("user_index").join(likes.select("row", "user_index"), on="row", maintain_order="left")
