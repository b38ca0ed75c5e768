"""Text fields of users and items: names, values and descriptions."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault
from kedro_provenance.parameters import Block
from reclora_kedro.ingestion.config import FREE_TEXT
from reclora_kedro.parameters import Real

MAX = float(np.finfo(float).max)


def field_names(table: pl.DataFrame) -> list[str]:
    """Return the text fields of canonical items or users: all columns of texts but ids and titles.

    Examples:
        >>> field_names(pl.DataFrame({"item_id": [7], "title": ["Heat"], "genres": ["Crime, Drama"]}))
        ['genres']
    """
    fixed = ("user_id", "item_id", "title")
    return [name for name, dtype in table.schema.items() if name not in fixed and dtype == pl.String]


class Range(Block):
    """Bounds of a number, both included."""

    min: Real = -MAX
    max: Real = MAX

    def __str__(self) -> str:
        return f"from {self.min:g} to {self.max:g}"


Values = Mapping[str, Sequence[str] | Range]
"""Values of fields of items, of which they have one of each: of a text field a list, of a number its bounds."""


def items_with(items: pl.DataFrame, values: Values) -> np.ndarray:
    """Return whether items have one of the values of each field, (items,); text fields list theirs by commas.

    Examples:
        >>> items = pl.DataFrame({"genres": ["Crime, Drama", "Drama", None], "price": [9.5, None, 2.0]})
        >>> items_with(items, {"genres": ("Drama", "War"), "price": Range(min=5)})
        array([ True, False, False])
    """
    conditions = [
        pl.col(field).is_between(wanted.min, wanted.max)
        if isinstance(wanted, Range)
        else pl.col(field).str.split(",").list.eval(pl.element().str.strip_chars().is_in([*wanted])).list.any()
        for field, wanted in values.items()
    ]
    return items.select(pl.all_horizontal(conditions).fill_null(False)).to_series().to_numpy()


def check_values(values: Values, items: pl.DataFrame, subject: str) -> None:
    """Raise a Fault for a field that items lack, or that is of the other kind."""
    for name, wanted in values.items():
        is_number = isinstance(wanted, Range)
        known = number_names(items) if is_number else field_names(items)
        if name not in known:
            expected = f"{'numbers' if is_number else 'text fields'} of the items are {', '.join(known) or 'none'}"
            advice = "Name one of them; numbers have bounds, such as {max: 20}, and text fields lists of values"
            raise Fault(subject, f"names {name!r}", expected, advice)


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
