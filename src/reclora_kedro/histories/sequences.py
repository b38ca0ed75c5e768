"""Each user's events stored once as flat arrays, and the samples that point into them."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from reclora_kedro.errors import MismatchError
from reclora_kedro.parameters import Block, Count, Positive

Ties = Literal["strict", "order"]
BY_USER = ("user_index", "timestamp", "item_index")  # the order of the events
ROWS_AT_ONCE = 2**22  # whose levels are looked up together
MOST_LEVELS = 256  # a level is stored as 8 bits


class RatingStep(Block):
    """Levels of ratings that are a fixed step apart."""

    step: Positive


RatingLevels = Annotated[Count, Field(ge=2, le=MOST_LEVELS)] | RatingStep | None
"""Quantiles of the training ratings, so many; or levels a step apart; or each rating a level of its own."""


@dataclass(frozen=True)
class Sequences:
    """The events of all users, grouped by user, in (timestamp, item) order within a user.

    The events of user `u` are `offsets[u]:offsets[u + 1]`; a position in these arrays is a *flat event index*.

    Attributes:
        offsets: int64, shape (users + 1,).
        item_index: int32, shape (events,): row of the item in the canonical items.
        rating: float32, shape (events,): as the log has it.
        rating_level: uint8, shape (events,): see `rating_levels`.
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

    Rows without a rating, which were shown and not clicked, are left out; an event without a label is a like. Levels
    rank all ratings of the log; without `rank_ratings` they are 0.

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
    events = with_indices(interactions, items, users).sort(BY_USER).drop_nulls("rating")
    ratings = events["rating"].to_numpy()
    counts = np.bincount(events["user_index"].to_numpy(), minlength=users.height)
    return Sequences(
        offsets=np.concatenate([[0], counts.cumsum()]),
        item_index=events["item_index"].to_numpy(),
        rating=events["rating"].cast(pl.Float32).to_numpy(),
        rating_level=rating_levels(ratings, ratings, None) if rank_ratings else np.zeros(len(ratings), dtype=np.uint8),
        label=events["label"].cast(pl.Int8).fill_null(1).to_numpy(),
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
    require_long_enough(np.diff(sequences.offsets).max(initial=1) - 1, len(event), min_history)
    return events.filter(enough).sort("timestamp", "user_index", "item_index").with_row_index("row")


def require_long_enough(most: int, rows: int, min_history: int) -> None:
    """Refuse a log in which no row has that many earlier events of its user.

    Args:
        most: earlier events that a row has.
        rows: how many rows could be samples.
        min_history: how many earlier events they need.

    Raises:
        ValueError: names the parameter.
    """
    if most < min_history:
        raise ValueError(
            f"history.min_history is {min_history}, but none of the {rows} interactions has that many earlier events "
            f"of its user (at most {most}): lower it"
        )


def user_of_events(offsets: np.ndarray) -> np.ndarray:
    """The user of every flat event, int32, from the offsets of `Sequences`.

    Examples:
        >>> user_of_events(np.array([0, 2, 3]))
        array([0, 0, 1], dtype=int32)
    """
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def build_impression_samples(
    interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, min_history: int
) -> pl.DataFrame:
    """Samples of a log with rows that are no events or no samples; in (timestamp, user, item) order.

    The samples of one user and second, such as those of an impression, share their history: the events of earlier
    seconds, at least `min_history` of them. A row that was not clicked is no event of its own; as drawn negatives do,
    it has the `event` of a click of the same moment, or null where there was none.

    Returns:
        The columns of `build_samples`, with the flat event indices of `build_sequences`.

    Raises:
        ValueError: no row has that many earlier events.

    Examples:
        >>> log = pl.DataFrame({
        ...     "user_id": [7, 7, 7], "item_id": [1, 1, 2], "rating": [1.0, None, 1.0], "timestamp": [5, 6, 6],
        ...     "label": [None, 0, 1],
        ... })
        >>> tables = pl.DataFrame({"item_id": [1, 2]}), pl.DataFrame({"user_id": [7]})
        >>> build_impression_samples(log, *tables, min_history=1).select("item_index", "event", "history_end").rows()
        [(0, 1, 1), (1, 1, 1)]
    """
    is_event, moment = pl.col("rating").is_not_null(), ("user_index", "timestamp")
    earlier = is_event.cast(pl.Int64).cum_sum() - is_event.cast(pl.Int64)
    rows = (
        with_indices(interactions, items, users)
        .sort(BY_USER)
        .with_columns(earlier=earlier, event=pl.when(is_event).then(earlier))
        .with_columns(
            history_end=pl.col("earlier").first().over(moment),
            history_start=pl.col("earlier").first().over("user_index"),
            event=pl.col("event").fill_null(pl.col("event").min().over(moment)),
        )
        .filter(pl.col("label").is_not_null())
    )
    length = pl.col("history_end") - pl.col("history_start")
    require_long_enough(rows.select(length.max()).item() or 0, rows.height, min_history)
    samples = rows.filter(length >= min_history)
    return (
        samples.select("user_index", "item_index", pl.col("label").cast(pl.Int8), "timestamp", "event", "history_end")
        .sort("timestamp", "user_index", "item_index")
        .with_row_index("row")
    )


def rating_levels(rating: np.ndarray, training_ratings: np.ndarray, levels: RatingLevels) -> np.ndarray:
    """Levels of ratings, uint8, from 0; which ones there are depends on the training ratings alone.

    Args:
        rating: ratings; one that is beyond the training ratings has their first or last level.
        training_ratings: ratings to learn from.
        levels: None: each training rating is one, and takes the ratings nearest to it; a number: so many quantiles,
            about as many training ratings in each; a step: its multiples, each of which takes the ratings nearest to
            it.

    Raises:
        ValueError: there would be over 256 levels.

    Examples:
        >>> rating_levels(np.array([1.2, 7.35, 9.9]), np.array([1.0, 7.0, 7.3, 8.0]), levels=2)
        array([0, 1, 1], dtype=uint8)
        >>> rating_levels(np.array([0.5, 2.9, 9.9]), np.array([1.0, 4.0]), levels=RatingStep(step=0.5))
        array([0, 4, 6], dtype=uint8)
        >>> rating_levels(np.array([1.0, 4.0, 5.0, 3.9, 9.9]), np.array([4.0, 1.0, 5.0]), levels=None)
        array([0, 1, 2, 1, 2], dtype=uint8)
    """
    if not len(training_ratings):
        return np.zeros(len(rating), dtype=np.uint8)
    if isinstance(levels, RatingStep):
        low, high = (round(float(end) / levels.step) for end in (training_ratings.min(), training_ratings.max()))
        _require_few(high - low + 1, f"history.rating_levels.step {levels.step:g} makes", "levels", "a larger step")
        edges = (np.arange(low, high) + 0.5) * levels.step
    elif levels is None:
        values = np.unique(training_ratings)
        _require_few(len(values), "interactions.rating has", "distinct values", "a number, such as 10, or a step")
        edges = (values[1:].astype(float) + values[:-1]) / 2
    else:
        edges = np.unique(np.quantile(training_ratings, np.arange(1, levels) / levels))
    blocks = np.array_split(rating, 1 + len(rating) // ROWS_AT_ONCE)  # places in the edges are eight bytes each
    return np.concatenate([np.searchsorted(edges, block, side="right").astype(np.uint8) for block in blocks])


def with_indices(interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """The log with user_index and item_index, in its order.

    Raises:
        MismatchError: the log names a user or an item that its table lacks.
    """
    rows = interactions
    for entity, table in (("user", users), ("item", items)):
        index = table.select(f"{entity}_id", pl.int_range(pl.len(), dtype=pl.Int32).alias(f"{entity}_index"))
        rows = rows.join(index, on=f"{entity}_id", how="left", maintain_order="left")
        _require_known(rows, entity)
    return rows


def _require_known(events: pl.DataFrame, entity: str) -> None:
    unknown = events.filter(pl.col(f"{entity}_index").is_null())[f"{entity}_id"].unique().sort()
    if len(unknown):
        raise MismatchError(
            f"interactions name {len(unknown)} values of {entity}_id that the {entity}s table lacks, for example "
            f"{unknown.head(3).to_list()}: the tables stem from different runs.",
            "interactions",
            f"{entity}s",
        )


def _require_few(levels: int, found: str, of_what: str, remedy: str) -> None:
    if levels > MOST_LEVELS:
        raise ValueError(
            f"{found} {levels} {of_what}, at most {MOST_LEVELS} can be levels of their own: set history.rating_levels "
            f"to {remedy}"
        )
