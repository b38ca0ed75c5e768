"""Impressions with and without clicks, and click histories without dates."""

import polars as pl

from reclora_kedro.ingestion.config import ImpressionList
from reclora_kedro.ingestion.ids import canonical


def expand_impressions(log: pl.DataFrame, marks: ImpressionList) -> pl.DataFrame:
    """Return one row per item of the lists in `item_id`, with rating 1 if clicked and 0 if not.

    An item without a mark has no rating; an empty list leaves a row without an item.

    Examples:
        >>> log = pl.DataFrame({"user_id": ["U1"], "item_id": [["N7-1", "N8-0"]], "timestamp": [60]})
        >>> expand_impressions(log, ImpressionList(separator=" ", clicked="-1", not_clicked="-0")).rows()
        [('U1', 'N7', 60, 1.0), ('U1', 'N8', 60, 0.0)]
    """
    item, rows = pl.col("item_id"), log.explode("item_id", empty_as_null=True)
    clicked, not_clicked = item.str.ends_with(marks.clicked), item.str.ends_with(marks.not_clicked)
    stripped = pl.when(clicked).then(item.str.strip_suffix(marks.clicked))
    item_id = stripped.when(not_clicked).then(item.str.strip_suffix(marks.not_clicked)).otherwise(item)
    return rows.with_columns(
        item_id=pl.when(item_id != "").then(item_id), rating=pl.when(clicked).then(1.0).when(not_clicked).then(0.0)
    )


def starting_histories(clicks: pl.DataFrame, item_type: pl.DataType) -> pl.DataFrame:
    """Return the clicks from before the log, from the list in each user's first row: rating 1, label null.

    As they have no dates, the last one gets the second before the user's first row, and each earlier one a second less.

    Examples:
        >>> clicks = pl.DataFrame({"user_id": [1, 1], "timestamp": [90, 60], "item_id": [["a", "b"], ["a"]]})
        >>> starting_histories(clicks, pl.String()).rows()
        [(1, 'a', 1.0, 59, None)]
    """
    items, seconds = pl.col("item_id"), pl.col("timestamp")
    events = (
        clicks.filter(pl.col("user_id").is_not_null() & (seconds > 0))
        .sort("timestamp", maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .filter(items.list.len() > 0)
        .with_columns(items.list.reverse(), steps_back=pl.int_ranges(1, items.list.len() + 1))
        .explode("item_id", "steps_back", empty_as_null=True)
        .select(
            "user_id",
            "item_id",
            rating=pl.lit(1.0),
            timestamp=seconds - pl.col("steps_back"),
            label=pl.lit(None, pl.Int8),
        )
    )
    return events.with_columns(canonical(events["item_id"], item_type, strict=False))
