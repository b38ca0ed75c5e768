"""Logs of what was shown and whether it was clicked: lists of impressions, and histories of clicks without dates."""

import polars as pl

from reclora_kedro.interactions.config import ImpressionList


def expand_impressions(log: pl.DataFrame, marks: ImpressionList) -> pl.DataFrame:
    """One row for each item of the lists in `item_id`, with a rating of 1 where it was clicked and 0 where not.

    An item that ends in neither mark has no rating; an empty list leaves a row without an item.

    Examples:
        >>> log = pl.DataFrame({"user_id": ["U1"], "item_id": [["N7-1", "N8-0"]], "timestamp": [60]})
        >>> expand_impressions(log, ImpressionList(separator=" ", clicked="-1", not_clicked="-0")).rows()
        [('U1', 'N7', 60, 1.0), ('U1', 'N8', 60, 0.0)]
    """
    item, rows = pl.col("item_id"), log.explode("item_id", empty_as_null=True)
    clicked, not_clicked = item.str.ends_with(marks.clicked), item.str.ends_with(marks.not_clicked)
    stripped = pl.when(clicked).then(item.str.strip_suffix(marks.clicked))
    shown = stripped.when(not_clicked).then(item.str.strip_suffix(marks.not_clicked)).otherwise(item)
    return rows.with_columns(
        item_id=pl.when(shown != "").then(shown), rating=pl.when(clicked).then(1.0).when(not_clicked).then(0.0)
    )


def starting_histories(clicks: pl.DataFrame, item_type: pl.DataType) -> pl.DataFrame:
    """The events before the log begins, from the list of each user's first row: their ratings are 1, their labels null.

    They have no dates: the last one gets the second before the user's first row, the one before it the second before
    that, and so on.

    Args:
        clicks: user_id, timestamp, and item_id, a list of the ids clicked before, the oldest first.
        item_type: type of the log's item ids; an id that is none becomes null.

    Examples:
        >>> clicks = pl.DataFrame({"user_id": [1, 1], "timestamp": [90, 60], "item_id": [["a", "b"], ["a"]]})
        >>> starting_histories(clicks, pl.String()).rows()
        [(1, 'a', 1.0, 59, None)]
    """
    items, seconds = pl.col("item_id"), pl.col("timestamp")
    return (
        clicks.filter(pl.col("user_id").is_not_null() & (seconds > 0))
        .sort("timestamp", maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .filter(items.list.len() > 0)
        .with_columns(items.list.reverse(), steps_back=pl.int_ranges(1, items.list.len() + 1))
        .explode("item_id", "steps_back", empty_as_null=True)
        .select(
            "user_id",
            items.cast(item_type, strict=False),
            rating=pl.lit(1.0),
            timestamp=seconds - pl.col("steps_back"),
            label=pl.lit(None, pl.Int8),
        )
    )
