"""Text fields of users and items: names, values and descriptions."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from reclora_kedro.ingestion.config import FREE_TEXT


def field_names(table: pl.DataFrame) -> list[str]:
    """Return the text fields of canonical items or users: all columns of texts but ids and titles.

    Examples:
        >>> field_names(pl.DataFrame({"item_id": [7], "title": ["Heat"], "genres": ["Crime, Drama"]}))
        ['genres']
    """
    fixed = ("user_id", "item_id", "title")
    return [name for name, dtype in table.schema.items() if name not in fixed and dtype == pl.String]


def items_with(items: pl.DataFrame, values: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return whether items have at least one of the values of each text field, (items,); fields list theirs by commas.

    Examples:
        >>> items_with(pl.DataFrame({"genres": ["Crime, Drama", "Comedy", None]}), {"genres": ["Drama", "War"]})
        array([ True, False, False])
    """
    conditions = [
        pl.col(field).str.split(",").list.eval(pl.element().str.strip_chars().is_in([*wanted])).list.any()
        for field, wanted in values.items()
    ]
    return items.select(pl.all_horizontal(conditions).fill_null(False)).to_series().to_numpy()


def number_names(table: pl.DataFrame) -> list[str]:
    """Return the fields of canonical items or users that are numbers.

    Examples:
        >>> number_names(pl.DataFrame({"item_id": [7], "title": ["Heat"], "price": [9.5]}))
        ['price']
    """
    return [name for name, dtype in table.schema.items() if dtype == pl.Float64]


def category_names(table: pl.DataFrame) -> list[str]:
    """Return the text fields whose values are shared categories: all but `FREE_TEXT`.

    Examples:
        >>> category_names(pl.DataFrame({"item_id": [7], "genres": ["Crime"], "description": ["A thief, a cop."]}))
        ['genres']
    """
    return [name for name in field_names(table) if name != FREE_TEXT]


def field_values(table: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """Return each row's distinct values of text fields: columns row, field and value, in any order.

    Examples:
        >>> items = pl.DataFrame({"item_id": [7, 8], "genres": ["War, Drama", None]})
        >>> field_values(items, ["genres"]).sort("value").rows()
        [(0, 'genres', 'Drama'), (0, 'genres', 'War')]
    """
    return (
        table.select(pl.int_range(pl.len()).alias("row"), *fields)
        .unpivot(fields, index="row", variable_name="field", value_name="value")
        .with_columns(pl.col("value").cast(pl.String).str.split(","))
        .explode("value")
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value") != "")
        .unique()
    )


def describe_items(items: pl.DataFrame) -> list[str]:
    """Return one line per item, from its title and text fields; absent fields are left out.

    Examples:
        >>> items = pl.DataFrame({
        ...     "item_id": [1, 2], "title": ["Toy Story (1995)", "Heat (1995)"], "genres": ["Animation, Comedy", None],
        ... })
        >>> describe_items(items)
        ['Toy Story (1995). genres: Animation, Comedy', 'Heat (1995)']
    """
    fields = [pl.format("{}: {}", pl.lit(name.replace("_", " ")), name) for name in field_names(items)]
    return items.select(pl.concat_str("title", *fields, separator=". ", ignore_nulls=True)).to_series().to_list()
