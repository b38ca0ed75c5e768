"""The canonical tables as pandera schemas.

A catalog entry's ``validator:`` key names its schema, so that Kedro checks the table whenever it is saved or loaded.
"""

from math import inf
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.dtypes import immutable
from pandera.engines import polars_engine

from reclora_kedro.ingestion.config import WITHDRAWN
from reclora_kedro.ingestion.events import EVENT_KEY, FIXED, MOMENT_KEY, comes_after_previous

ROWS_AT_ONCE = 5_000_000  # of a lazy table that is validated
ROWS_BEFORE = 10_000  # that are validated again with those that follow: more than a user has in a second


@polars_engine.Engine.register_dtype
@immutable
class Id(polars_engine.DataType):
    """An id: ``Int64`` or ``String``."""

    def check(self, pandera_dtype: Any, data_container: Any = None) -> bool:
        return pandera_dtype in (pl.Int64, pl.String)

    def __str__(self) -> str:
        return "Int64 or String"


class Interactions(pa.DataFrameModel):
    """The log: unique by (timestamp, user_id, item_id), sorted by (timestamp, user_id).

    Events of one user and second are in the order of the raw log. Rows with a rating are events, rows with a label may
    be samples; most are both. Impressions without a click have no rating, and never enter a history. Clicks from before
    the log have no label. Further columns are those that `ingestion.interactions.columns` declares, see `EventSchema`.
    """

    user_id: Id
    item_id: Id
    rating: pl.Float64 = pa.Field(
        nullable=True, gt=-inf, lt=inf, description="1 in logs without ratings; null: shown, not clicked"
    )
    timestamp: pl.Int64 = pa.Field(gt=0, description="seconds since the epoch")
    label: pl.Int8 = pa.Field(isin=[0, 1], nullable=True, description="1 = liked; null: an event, but no sample")

    @classmethod
    def validate(cls, check_obj: Any, *arguments: Any, **settings: Any) -> Any:
        """Validate a table, eager or lazy (read in parts), and return it; raise SchemaError or SchemaErrors."""
        if not isinstance(check_obj, pl.LazyFrame):
            return super().validate(check_obj, *arguments, **settings)
        rows = check_obj.select(pl.len()).collect().item()
        for row in range(0, max(rows, 1), ROWS_AT_ONCE):  # with rows before, which these have to come after
            first = max(row - ROWS_BEFORE, 0)
            super().validate(check_obj.slice(first, row - first + ROWS_AT_ONCE).collect(), *arguments, **settings)
        return check_obj

    @pa.dataframe_check(error="events are not unique by (timestamp, user_id, item_id), or not sorted by the former two")
    def unique_and_in_order(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - a class method by pandera
        comes_after = comes_after_previous([*MOMENT_KEY, "place"])
        return data.lazyframe.with_row_index("place").select(comes_after & pl.struct(EVENT_KEY).is_first_distinct())

    @pa.dataframe_check(error="a declared column is neither of finite numbers nor of texts")
    def further_columns_are_declared_ones(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - a class method
        types = {name: each for name, each in data.lazyframe.collect_schema().items() if name not in FIXED}
        fit = [pl.lit(each in (pl.Float64, pl.String)) for each in types.values()]
        finite = [pl.col(name).is_finite().fill_null(True) for name, each in types.items() if each == pl.Float64]
        return data.lazyframe.select(pl.all_horizontal(True, *fit, *finite))

    @pa.dataframe_check(error="a row without a rating was shown and not clicked, but its label is not 0")
    def events_have_ratings(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - a class method by pandera
        return data.lazyframe.select(pl.col("rating").is_not_null() | pl.col("label").eq_missing(0))


class Items(pa.DataFrameModel):
    """The items: one row per item, whose row number is its index everywhere.

    Ingestion sorts them by item_id; an update appends new ones.
    """

    item_id: Id = pa.Field(unique=True)
    title: pl.String = pa.Field(str_length={"min_value": 1})

    @pa.dataframe_check(error="a field is neither a String nor a Float64 column")
    def fields_are_typed(cls, data: pa.PolarsData) -> bool:  # noqa: N805 - a class method by pandera
        return _all_fields_but(data.lazyframe, "item_id", WITHDRAWN)


class Users(pa.DataFrameModel):
    """The users of the log: one row per user, whose row number is its index everywhere.

    Ingestion sorts them by user_id; an update appends new ones.
    """

    user_id: Id = pa.Field(unique=True)

    @pa.dataframe_check(error="a profile field is neither a String nor a Float64 column")
    def fields_are_typed(cls, data: pa.PolarsData) -> bool:  # noqa: N805 - a class method by pandera
        return _all_fields_but(data.lazyframe, "user_id")


def _all_fields_but(table: pl.LazyFrame, *others: str) -> bool:
    types = table.collect_schema().items()
    return all(dtype in (pl.String, pl.Float64) for name, dtype in types if name not in others)
