"""Ids of users and items: which values are ids, and how they are written, at every door alike.

A log has whole numbers (``Int64``) or texts (``String``) as the ids of its users, and likewise of its items. Whatever
else names a user or an item (a table, a request, an event, a setting) is read as that type before it is looked up:
blanks around a text go, a whole float is its integer, and None, NaN and blank texts are no ids. In a log of texts,
every other text is an id. In one of whole numbers, ``018``, ``+18`` and ``1e3`` are refused, since they may mean an id
that is written otherwise.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Term

BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""White space of Unicode, no-break spaces included."""
MAX_LENGTH = 200  # characters: what the service takes, and what an index of a database holds
LARGEST_EXACT_FLOAT = 2**53  # the largest integer up to which 64-bit floats are exact
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")
MAX_NAMED = 5  # ids in a message
WHOLE_OR_TEXT = "ids are whole numbers or text"


class IdError(ValueError):
    """Values of a column are no ids, or are written in a way that the log's ids are not: `unfit`; None for all."""

    def __init__(self, values: pl.Series, unfit: pl.Series | None, expected: str) -> None:
        self.unfit, self.expected = unfit, expected
        found = values if unfit is None else values.filter(unfit)
        super().__init__(f"{names(found)}: {expected}.")


def canonical(values: pl.Series, kind: pl.DataType | None = None, *, strict: bool = True) -> pl.Series:
    """Return the ids of a column as a log has them: ``Int64`` or ``String``; null where there is none.

    `kind` is the type of the log's ids; None for that of the values. Texts that a log of whole numbers cannot have as
    ids are null. A number that is written in another way than the log's raises IdError or, if not `strict`, is null.

    Examples:
        >>> canonical(pl.Series([18.0, None])).to_list(), canonical(pl.Series([" ann ", "018", ""])).to_list()
        ([18, None], ['ann', '018', None])
        >>> canonical(pl.Series([" 18", "ann"]), pl.Int64()).to_list()
        [18, None]
        >>> canonical(pl.Series(["18", "018"]), pl.Int64())
        Traceback (most recent call last):
        ...
        reclora_kedro.ingestion.ids.IdError: '018': ids of this log are whole numbers: write 18.
    """
    ids = _in_own_type(values, kind)
    if kind is None or ids.dtype == kind:
        return ids
    if kind == pl.String:
        return ids.cast(pl.String)
    numbers = ids.cast(pl.Int64, strict=False)
    numbers = numbers.set((numbers.cast(pl.String) != ids).fill_null(False), None)
    if strict and (unfit := _otherwise_written(ids)).any():
        raise IdError(ids, unfit, f"ids of this log are whole numbers: write {int(Decimal(ids.filter(unfit)[0]))}")
    return numbers


def canonical_as(values: pl.Series, known: pl.Series) -> pl.Series:
    """Return the ids of a table as a log has them, see `canonical`.

    IdError is raised, too, for whole numbers where the log has texts such as 018: they may have lost their zeros.

    Examples:
        >>> canonical_as(pl.Series([18]), pl.Series(["ann", "18"])).to_list()
        ['18']
        >>> canonical_as(pl.Series([18]), pl.Series(["018"]))
        Traceback (most recent call last):
        ...
        reclora_kedro.ingestion.ids.IdError: 18: ids of this log are texts such as '018', so load these as text, too.
    """
    ids = _in_own_type(values, known.dtype)
    if ids.dtype != pl.String and known.dtype == pl.String and (padded := _otherwise_written(known)).any():
        expected = f"ids of this log are texts such as {known.filter(padded)[0]!r}, so load these as text, too"
        raise IdError(ids, ids.is_not_null(), expected)
    return canonical(ids, known.dtype)


def _otherwise_written(ids: pl.Series) -> pl.Series:
    """Return whether each text is a whole number that is written in another way than integers are."""
    value, number = ids.cast(pl.Float64, strict=False), ids.cast(pl.Int64, strict=False)
    is_canonical = (number.cast(pl.String) == ids).fill_null(False)
    return ((value % 1 == 0) & (value.abs() < 2**63) & ~is_canonical).fill_null(False)


def _in_own_type(values: pl.Series, kind: pl.DataType | None) -> pl.Series:
    if values.dtype == pl.Object:
        values = pl.Series(values.name, [id_text(each) for each in values], dtype=pl.String)
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        text = values.str.strip_chars(BLANKS)
        text = text.set(text == "", None)
        unfit = (text.str.len_chars() > MAX_LENGTH) | text.str.contains("\0", literal=True)
        _refuse(values, unfit, f"an id has at most {MAX_LENGTH} characters, and none that is NUL")
        return text
    if values.dtype == pl.Null and kind is not None:
        return values.cast(kind)
    if values.dtype.is_decimal():
        values = values.cast(pl.Float64)
    if values.dtype.is_float():
        values = values.fill_nan(None)
        too_large = "whole numbers this large are exact only as integers or text"
        _refuse(values, values % 1 != 0, WHOLE_OR_TEXT)
        _refuse(values, values.abs() >= LARGEST_EXACT_FLOAT, too_large)
    elif not values.dtype.is_integer():
        raise IdError(values, None, WHOLE_OR_TEXT)
    ids = values.cast(pl.Int64, strict=False)
    lost = ids.is_null() & values.is_not_null()
    _refuse(values, lost, "ids are signed 64-bit integers, or text where they are larger")
    return ids


def _refuse(values: pl.Series, unfit: pl.Series, expected: str) -> None:
    if unfit.any():
        raise IdError(values, unfit, expected)


def id_text(value: Any) -> str | None:
    """Return an id as its text, None for None, NaN and blank texts; raise Fault for what is none, such as 1.5.

    Examples:
        >>> id_text(18), id_text(18.0), id_text(" ann"), id_text(float("nan"))
        ('18', '18', 'ann', None)
    """
    if isinstance(value, str):
        return value.strip(BLANKS) or None
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    if isinstance(value, float | np.floating | Decimal):
        if value != value:
            return None
        if value % 1 == 0 and (isinstance(value, Decimal) or abs(float(value)) < LARGEST_EXACT_FLOAT):
            return str(int(value))
    elif isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    elif not isinstance(value, bool | np.bool_ | Iterable):
        return str(value)
    raise Fault(repr(value), "is not an id", WHOLE_OR_TEXT)


def is_id(text: str, kind: pl.DataType) -> bool:
    """Whether a text is written as the ids of a log's type are.

    Examples:
        >>> is_id("18", pl.Int64()), is_id("018", pl.Int64()), is_id("018", pl.String())
        (True, False, True)
    """
    return kind == pl.String or (WHOLE_NUMBER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63)


def listed(values: Any, column: str, argument: str | Term) -> pl.Series:
    """Return ids that a script gives as texts, null for None and NaN.

    Values are an id, several ids, or a table with them in `column`, or in its only column. Fault, which names the
    argument, is raised for a value that is no id, and for a table without such a column.

    Examples:
        >>> listed(7, "user_id", "users").to_list(), listed(["ann", 7.0], "user_id", "users").to_list()
        (['7'], ['ann', '7'])
        >>> listed(pl.DataFrame({"user_id": [7], "age": [30]}), "user_id", "users").to_list()
        ['7']
    """
    if isinstance(values, pl.LazyFrame):
        values = values.collect()
    if hasattr(values, "columns"):
        columns = list(values.columns)
        if column not in columns and len(columns) != 1:
            found = f"is a table with the columns {', '.join(map(str, columns))}"
            raise Fault(argument, found, advice=f"Give ids, or a table with ids in the column {column}")
        values = values[column if column in columns else columns[0]]
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        values = [values]
    try:
        if isinstance(values, pl.Series):
            return canonical(values, pl.String())
        return pl.Series([id_text(each) for each in values], dtype=pl.String)
    except ValueError as error:
        raise Fault(argument, "", str(error).rstrip("."), "Correct the ids, or leave such values out") from error


def typed(texts: pl.Series, kind: pl.DataType, argument: str | Term) -> pl.Series:
    """Return ids that a script or a setting gives as a log has them, null where that cannot be.

    Raises Fault, which names the argument, for a number that is written in another way than the log's ids.
    """
    try:
        return canonical(texts, kind)
    except IdError as error:
        raise Fault(argument, "", str(error).rstrip(".")) from error


def look_up(values: Any, known: pl.Series, argument: str | Term) -> pl.DataFrame:
    """Look up ids that a script, a setting or a request gives in those of a log's users or items, `known`.

    The frame has a row per value: given (its text, null for None and NaN), id (of the log's type, null where that has
    none) and index (Int32, null for an unknown one). See `listed` and `typed` for values, and errors that name the
    argument.

    Examples:
        >>> look_up(["7", 9, "ann"], pl.Series([3, 7]), "users").rows()
        [('7', 7, 1), ('9', 9, None), ('ann', None, None)]
    """
    given = listed(values, known.name, argument).alias("given")
    ids = typed(given, known.dtype, argument).alias("id")
    table = pl.DataFrame({"id": known, "index": pl.int_range(len(known), eager=True, dtype=pl.Int32)})
    return pl.DataFrame([given, ids]).join(table, on="id", how="left", maintain_order="left")


def names(values: Sequence[Any] | pl.Series) -> str:
    """Return the first values for a message.

    Examples:
        >>> names(["ann", None, 7])
        "'ann', None, 7"
    """
    more = ", …" if len(values) > MAX_NAMED else ""
    return ", ".join(map(repr, values[:MAX_NAMED])) + more
