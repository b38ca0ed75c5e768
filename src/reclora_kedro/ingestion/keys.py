"""Keys of the canonical tables, their order, and the name of their free text."""

from collections.abc import Sequence

import polars as pl

MOMENT_KEY = ("timestamp", "user_id")
"""The order of the canonical log."""

EVENT_KEY = (*MOMENT_KEY, "item_id")
"""The key of an event."""

FREE_TEXT = "description"
"""The text field that is free text instead of categories shared by items or users."""


def comes_after_previous(key: Sequence[str]) -> pl.Expr:
    """Return whether each row's key is greater than the previous row's; true for the first row.

    Examples:
        >>> table = pl.DataFrame({"timestamp": [1, 1, 2, 2], "user_id": [5, 6, 5, 5]})
        >>> table.select(comes_after_previous(["timestamp", "user_id"])).to_series().to_list()
        [True, True, True, False]
    """
    after = pl.lit(False)
    for column in map(pl.col, reversed(key)):
        after = (column > column.shift()) | ((column == column.shift()) & after)
    return after.fill_null(True)
