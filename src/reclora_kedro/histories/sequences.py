"""Each user's events stored once as flat arrays, and the samples that point into them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from reclora_kedro.errors import MismatchError

Ties = Literal["strict", "order"]


@dataclass(frozen=True)
class Sequences:
    """The events of all users, grouped by user, in (timestamp, item) order within a user.

    The events of user `u` are `offsets[u]:offsets[u + 1]`; a position in these arrays is a *flat event index*.

    Attributes:
        offsets: int64, shape (users + 1,).
        item_index: int32, shape (events,): row of the item in the canonical items.
        rating: float32, shape (events,): as the log has it.
        rating_level: uint8, shape (events,): rank of the rating among the log's distinct ratings, from 0, or its place
            between quantiles, see `quantile_levels`.
        label: int8, shape (events,): 1 = liked.
        timestamp: int64, shape (events,): seconds since the epoch.
    """

    offsets: np.ndarray
    item_index: np.ndarray
    rating: np.ndarray
    rating_level: np.ndarray
    label: np.ndarray
    timestamp: np.ndarray


def build_sequences(
    interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, rank_ratings: bool = True
) -> Sequences:
    """Sequences of the canonical log; the order of its rows does not matter.

    Without `rank_ratings` all rating levels are 0.

    Raises:
        MismatchError: the log names a user or an item that its table lacks.
        ValueError: it has over 256 distinct ratings to rank.

    Examples:
        >>> log = pl.DataFrame({
        ...     "user_id": [7, 7, 3], "item_id": [20, 10, 20], "rating": [4.0, 2.0, 5.0],
        ...     "timestamp": [60, 50, 70], "label": [1, 0, 1],
        ... })
        >>> sequences = build_sequences(log, pl.DataFrame({"item_id": [10, 20]}), pl.DataFrame({"user_id": [3, 7]}))
        >>> sequences.offsets, sequences.item_index, sequences.rating_level
        (array([0, 1, 3]), array([1, 0, 1], dtype=int32), array([2, 0, 1], dtype=uint8))
    """
    events = interactions
    for entity, table in (("user", users), ("item", items)):
        index = table.select(f"{entity}_id", pl.int_range(pl.len(), dtype=pl.Int32).alias(f"{entity}_index"))
        events = events.join(index, on=f"{entity}_id", how="left")
        _require_known(events, entity)
    events = events.sort("user_index", "timestamp", "item_index")
    counts = np.bincount(events["user_index"].to_numpy(), minlength=users.height)
    return Sequences(
        offsets=np.concatenate([[0], counts.cumsum()]),
        item_index=events["item_index"].to_numpy(),
        rating=events["rating"].cast(pl.Float32).to_numpy(),
        rating_level=_rank(events["rating"]) if rank_ratings else np.zeros(events.height, dtype=np.uint8),
        label=events["label"].cast(pl.Int8).to_numpy(),
        timestamp=events["timestamp"].to_numpy(),
    )


def build_samples(sequences: Sequences, min_history: int, ties: Ties = "strict") -> pl.DataFrame:
    """One sample per event with enough earlier ones, in (timestamp, user, item) order.

    `min_history` counts places in the sequence, as the paper's data preparation does. The history itself is strict in
    time: events of the row's own second never enter it, so it may be shorter than `min_history`. With ties in `order`,
    those before the row in the sequence do, as in the paper.

    Returns:
        Columns row (UInt32, from 0), user_index, item_index (Int32), label (Int8), timestamp (Int64, seconds),
        event (Int64, the row's own flat event index) and history_end (Int64): the row's history is the flat events
        `offsets[user_index]:history_end`.

    Raises:
        ValueError: no event has that many earlier ones.
    """
    user_index = user_of_events(sequences.offsets)
    event = np.arange(len(user_index))
    opens_second = np.ones(len(event), dtype=bool)
    opens_second[1:] = (np.diff(user_index) != 0) | (np.diff(sequences.timestamp) != 0)
    events = pl.DataFrame(
        {
            "user_index": user_index,
            "item_index": sequences.item_index,
            "label": sequences.label,
            "timestamp": sequences.timestamp,
            "event": event,
            "history_end": event if ties == "order" else np.maximum.accumulate(np.where(opens_second, event, 0)),
        }
    )
    enough = event - sequences.offsets[user_index] >= min_history
    if not enough.any():
        raise ValueError(
            f"history.min_history is {min_history}, but none of the {len(event)} interactions has that many earlier "
            f"ones of its user (the longest log of a user has {np.diff(sequences.offsets).max(initial=0)}): lower it"
        )
    return events.filter(enough).sort("timestamp", "user_index", "item_index").with_row_index("row")


def user_of_events(offsets: np.ndarray) -> np.ndarray:
    """The user of every flat event, int32, from the offsets of `Sequences`.

    Examples:
        >>> user_of_events(np.array([0, 2, 3]))
        array([0, 0, 1], dtype=int32)
    """
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def quantile_levels(rating: np.ndarray, training_ratings: np.ndarray, levels: int) -> np.ndarray:
    """Levels of ratings, uint8, about as many training ratings in each; equal ratings share one.

    Examples:
        >>> quantile_levels(np.array([1.2, 7.35, 9.9]), np.array([1.0, 7.0, 7.3, 8.0]), levels=2)
        array([0, 1, 1], dtype=uint8)
    """
    edges = np.unique(np.quantile(training_ratings, np.arange(1, levels) / levels))
    return np.searchsorted(edges, rating, side="right").astype(np.uint8)


def _require_known(events: pl.DataFrame, entity: str) -> None:
    unknown = events.filter(pl.col(f"{entity}_index").is_null())[f"{entity}_id"].unique().sort()
    if len(unknown):
        raise MismatchError(
            f"interactions name {len(unknown)} values of {entity}_id that the {entity}s table lacks, for example "
            f"{unknown.head(3).to_list()}: the tables stem from different runs.",
            "interactions",
            f"{entity}s",
        )


def _rank(rating: pl.Series) -> np.ndarray:
    levels = rating.n_unique()
    if levels > 256:
        raise ValueError(
            f"interactions.rating has {levels} distinct values, at most 256 can be levels of their own: set "
            "history.rating_levels to a number, such as 10"
        )
    return (rating.rank("dense") - 1).cast(pl.UInt8).to_numpy()
