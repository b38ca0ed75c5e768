"""The canonical tables as contracts.

Each is named by a catalog entry's ``validator:`` key, so Kedro checks a table whenever it is saved or loaded.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.dtypes import immutable
from pandera.engines import polars_engine

MOMENT_KEY = ("timestamp", "user_id")
"""The order of the canonical log."""

EVENT_KEY = (*MOMENT_KEY, "item_id")
"""What names one event."""

ROWS_AT_ONCE = 5_000_000  # of a lazy table that is validated
ROWS_BEFORE = 10_000  # that are validated again with those that follow: more than a user has in a second

FREE_TEXT = "description"
"""The text field that is free text, rather than a category that items or users share."""


def field_names(table: pl.DataFrame) -> list[str]:
    """Text fields of canonical items or users: every column but ids and titles. A comma parts the values of one.

    Examples:
        >>> field_names(pl.DataFrame({"item_id": [7], "title": ["Heat"], "genres": ["Crime, Drama"]}))
        ['genres']
    """
    return [name for name in table.columns if name not in ("user_id", "item_id", "title")]


def category_names(table: pl.DataFrame) -> list[str]:
    """Text fields whose values are categories that items or users share: all but `FREE_TEXT`.

    Examples:
        >>> category_names(pl.DataFrame({"item_id": [7], "genres": ["Crime"], "description": ["A thief, a cop."]}))
        ['genres']
    """
    return [name for name in field_names(table) if name != FREE_TEXT]


def comes_after_previous(key: Sequence[str]) -> pl.Expr:
    """Whether a row's key is greater than the previous row's, column by column; the first row's always is.

    Examples:
        >>> table = pl.DataFrame({"timestamp": [1, 1, 2, 2], "user_id": [5, 6, 5, 5]})
        >>> table.select(comes_after_previous(["timestamp", "user_id"])).to_series().to_list()
        [True, True, True, False]
    """
    after = pl.lit(False)
    for column in map(pl.col, reversed(key)):
        after = (column > column.shift()) | ((column == column.shift()) & after)
    return after.fill_null(True)


@polars_engine.Engine.register_dtype
@immutable
class Id(polars_engine.DataType):
    """An id: ``Int64`` or ``String``."""

    def check(self, pandera_dtype: Any, data_container: Any = None) -> bool:
        """Whether a column's polars type is one of the two."""
        return pandera_dtype in (pl.Int64, pl.String)

    def __str__(self) -> str:
        return "Int64 or String"


class Interactions(pa.DataFrameModel):
    """The log: unique by (timestamp, user_id, item_id), sorted by (timestamp, user_id).

    Events of one user and second are in the order of the raw log.
    A row with a rating is an event of its user, a row with a label may be a sample; most are both. What was shown and
    not clicked has no rating, and never enters a history. What was clicked before the log begins has no label.
    """

    user_id: Id
    item_id: Id
    rating: pl.Float64 = pa.Field(
        nullable=True, gt=-inf, lt=inf, description="1 in logs without ratings; null: shown, not clicked"
    )
    timestamp: pl.Int64 = pa.Field(gt=0, description="seconds since the epoch")
    label: pl.Int8 = pa.Field(isin=[0, 1], nullable=True, description="1 = liked; null: an event, but no sample")

    class Config:
        """No other columns."""

        strict = True

    @classmethod
    def validate(cls, check_obj: Any, *arguments: Any, **settings: Any) -> Any:
        """The table, eager or lazy, once it is found to be a log; a lazy one is read in parts.

        Raises:
            SchemaError, SchemaErrors: it is none.
        """
        if not isinstance(check_obj, pl.LazyFrame):
            return super().validate(check_obj, *arguments, **settings)
        rows = check_obj.select(pl.len()).collect().item()
        for row in range(0, max(rows, 1), ROWS_AT_ONCE):  # with rows before, which these have to come after
            first = max(row - ROWS_BEFORE, 0)
            super().validate(check_obj.slice(first, row - first + ROWS_AT_ONCE).collect(), *arguments, **settings)
        return check_obj

    @pa.dataframe_check(error="events are not unique by (timestamp, user_id, item_id), or not sorted by the former two")
    def unique_and_in_order(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - a class method by pandera
        """Every event comes after the ones of earlier moments, and once."""
        comes_after = comes_after_previous([*MOMENT_KEY, "place"])
        return data.lazyframe.with_row_index("place").select(comes_after & pl.struct(EVENT_KEY).is_first_distinct())

    @pa.dataframe_check(error="a row without a rating was shown and not clicked, but its label is not 0")
    def events_have_ratings(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - a class method by pandera
        """Only what has label 0 may lack a rating."""
        return data.lazyframe.select(pl.col("rating").is_not_null() | pl.col("label").eq_missing(0))


class Items(pa.DataFrameModel):
    """The items: one row per item; the row number is the item's index everywhere.

    Ingestion sorts them by item_id; an update puts new ones behind.
    """

    item_id: Id = pa.Field(unique=True)
    title: pl.String = pa.Field(str_length={"min_value": 1})

    @pa.dataframe_check(error="a text field is not a String column")
    def fields_are_text(cls, data: pa.PolarsData) -> bool:  # noqa: N805 - a class method by pandera
        """All columns but the id hold text."""
        return _all_text_but(data.lazyframe, "item_id")


class Users(pa.DataFrameModel):
    """The users of the log: one row per user; the row number is the user's index everywhere.

    Ingestion sorts them by user_id; an update puts new ones behind.
    """

    user_id: Id = pa.Field(unique=True)

    @pa.dataframe_check(error="a profile field is not a String column")
    def fields_are_text(cls, data: pa.PolarsData) -> bool:  # noqa: N805 - a class method by pandera
        """All columns but the id hold text."""
        return _all_text_but(data.lazyframe, "user_id")


def _all_text_but(table: pl.LazyFrame, id_column: str) -> bool:
    return all(dtype == pl.String for name, dtype in table.collect_schema().items() if name != id_column)
