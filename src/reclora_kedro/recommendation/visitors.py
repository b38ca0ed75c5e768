"""Visitors, who are in no log: what they took is theirs alone; and similar items, the lists of those who took one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Value
from reclora_kedro.candidates.moments import NO_ITEM, NOTHING, Lists
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.ids import listed
from reclora_kedro.recommendation.delivery import Delivery, VisitorList
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.recommender import FittedRecommender

OF_VISITORS = "each visitor has a list of ids of items", "Write histories=[[1, 2]] for one visitor, who took two"


def with_visitors(
    recommender: FittedRecommender, histories: Sequence[Sequence[Any]], last_seconds: np.ndarray | None = None
) -> tuple[FittedRecommender, pl.DataFrame]:
    """Add visitors to the log of a recommender; models stay as they are.

    Their last events are at seconds of the log's clock, (visitors,); by default, they are the newest of all.

    Returns:
        The recommender, and the visitors' user_id (their places among the histories) and user_index.
    """
    if hasattr(histories, "columns") or isinstance(histories, str | Mapping) or not isinstance(histories, Iterable):
        raise Fault("histories", f"is of type {type(histories).__name__}", *OF_VISITORS)
    log, events, histories = recommender.log, recommender.log.sequences, [*histories]
    visitor_events = _events_of_visitors(log, histories)
    lengths = np.bincount(visitor_events["visitor"], minlength=len(histories))
    # One event per second, as they are in order; without a shared clock, the first one has 1.
    if last_seconds is None:
        last_seconds = np.full(len(histories), log.last_second) if log.shared_clock else lengths
    seconds = [np.arange(end - length + 1, end + 1) for end, length in zip(last_seconds, lengths, strict=True)]
    new = {
        "item_index": visitor_events["item"].to_numpy(),
        "rating": np.full(lengths.sum(), events.rating.max()),
        "rating_level": np.full(lengths.sum(), events.rating_level.max()),
        "label": np.ones(lengths.sum()),
        "timestamp": np.concatenate([NOTHING, *seconds]),
    }
    declared = events.schema.parsed(visitor_events["columns"])
    schema = events.schema.recognising(declared)
    new |= schema.encoded(declared)
    columns = {name: np.append(column, new[name].astype(column.dtype)) for name, column in events.columns.items()}
    offsets = np.concatenate([events.offsets, events.offsets[-1] + lengths.cumsum()])
    grown = replace(log, sequences=Sequences.from_columns(offsets, schema, **columns))
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


def _events_of_visitors(log: InteractionLog, histories: Sequence[Any]) -> pl.DataFrame:
    """Return visitor (place among the histories), item (index) and columns (JSON) of events of known items, in order.

    An event is an item's id, or a mapping with it, as item_id, and with declared columns.
    """
    ids, texts = list[pl.Series](), list[str | None]()
    for place, history in enumerate(histories):
        if isinstance(history, str | bytes | Mapping) or not isinstance(history, Iterable):
            raise Fault(f"histories[{place}]", ("is ", Value(history)), *OF_VISITORS)
        if isinstance(history, Sequence) and any(isinstance(each, Mapping) for each in history):
            told = [dict(each) if isinstance(each, Mapping) else {"item_id": each} for each in history]
            history = [each.pop("item_id", None) for each in told]
            texts += (log.sequences.schema.text(each, f"histories[{place}]: ") for each in told)
        ids.append(listed(history, "item_id", f"histories[{place}]"))
        texts += [None] * (sum(map(len, ids)) - len(texts))
    visitor = np.repeat(np.arange(len(ids)), [*map(len, ids)])
    items = log.find_items(pl.concat([pl.Series(dtype=pl.String), *ids]), "histories")
    columns = pl.Series(texts, dtype=pl.String)
    return pl.DataFrame({"visitor": visitor, "item": items, "columns": columns}).drop_nulls("item")


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
