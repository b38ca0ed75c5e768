"""Reading of raw tables: any frame as a polars frame, any usable column as a column of its canonical type.

Whatever cannot be read without guessing is refused with the names of table, column and parameter.
"""

import ast
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import polars as pl
from polars import selectors

from kedro_provenance.errors import NULL, Fault, Parameter, Term
from reclora_kedro.errors import Column, GiveTable, Loading, NameColumn, Table
from reclora_kedro.extras import require_extra
from reclora_kedro.ingestion.ids import BLANKS, IdError, canonical, canonical_as

UNIX_UNITS = {
    "unix_seconds": 1,
    "unix_milliseconds": 1_000,
    "unix_microseconds": 1_000_000,
    "unix_nanoseconds": 1_000_000_000,
}
"""Numeric timestamp formats and their ticks per second."""

BREAKS = r"[\p{Cc}\p{Zl}\p{Zp}]+"  # control characters and line breaks, which would break the lines of a prompt
WRITTEN_LISTS = "[]"  # the separator of lists that are written as text, as Python and JSON write them
OPINIONS = (("not recommended", "recommended"), ("dislike", "like"), ("down", "up"), ("negative", "positive"))
WORDS_OF_MARKS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), *OPINIONS)
"""Words, in lower case, for what was not clicked or liked, and what was."""

PLACE = " place "  # a column that no table has
ROW = "number of the row"  # a column that is added to stand in for times


def as_polars(table: Any, name: str) -> pl.DataFrame:
    """Convert a polars frame, eager or lazy, or a pandas frame to an eager polars frame; `name` is its catalog entry.

    Categories become text, and arrays become lists. Fault is raised for what is no frame, and for a pandas frame with
    two columns of one name, a column of mixed types, or an index that most likely is the first field of rows with more
    fields than the header.
    """
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    elif not isinstance(table, pl.DataFrame):
        table = _from_pandas(table, name)
    return table.with_columns(
        selectors.by_dtype(pl.Categorical, pl.Enum).cast(pl.String), selectors.array().arr.to_list()
    )


def _from_pandas(table: Any, name: str) -> pl.DataFrame:
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        kind = "holds nothing" if table is None else f"is of type {type(table).__name__}"
        raise Fault(Table(name), kind, "a table is expected", GiveTable(Table(name)))
    if not table.columns.is_unique:
        found = f"has the column {table.columns[table.columns.duplicated()][0]!r} twice"
        raise Fault(Table(name), found, advice="Name each column once in the file or the query")
    if table.index.name is None and table.index.nlevels == 1 and not table.index.is_unique:
        found = f"has an index whose values repeat, the first of them {table.index[0]!r}"
        longer = (
            f"where rows hold more fields than the {len(table.columns)} of the header, pandas makes an index of the "
        )
        expected = f"{longer}first ones, which shifts all others"
        raise Fault(Table(name), found, expected, "Correct the file, or reset the index of a table that has one")
    require_extra("arrow", "A table of pandas")
    from pyarrow import ArrowException

    for column in (each for _, each in table.items() if each.dtype == object):
        try:
            pl.from_pandas(column)
        except (OverflowError, TypeError, pl.exceptions.PolarsError, ArrowException) as error:
            large = (i for i, value in enumerate(column) if isinstance(value, int) and not -(2**63) <= value < 2**63)
            row = next(large, None)
            cause = f"row {row + 1:,} holds {column.iloc[row]}, beyond a 64-bit integer" if row is not None else error
            advice = "Correct the file, or load the column as text", Loading(Table(name))
            raise Fault(Column(column.name, Table(name)), f"cannot be read: {cause}", advice=advice) from error
    return pl.from_pandas(table)


@dataclass(frozen=True)
class RawColumns:
    """Columns of one raw table, read by name and returned in their canonical type.

    Each method takes the column's name in the raw table and, for error messages, the parameter with this name. It
    raises Fault if the column is missing or unreadable.

    Examples:
        >>> raw = RawColumns(pl.DataFrame({"UserID": [1.0, None]}), "raw_interactions")
        >>> raw.ids("UserID", "ingestion.interactions.user_id").to_list()
        [1, None]
        >>> raw.ids("MovieID", "ingestion.interactions.item_id")
        Traceback (most recent call last):
        ...
        kedro_provenance.errors.Fault: raw_interactions has no column 'MovieID', only: UserID. \
Set `ingestion.interactions.item_id` to one of them.
    """

    frame: pl.DataFrame
    table: str  # its catalog name
    rows_before: int = 0  # rows of the table before those of the frame, for messages
    places: pl.Series | None = None  # where the table's rows are other ones: of each row of the frame, its row's place

    def __post_init__(self) -> None:
        if self.frame.is_empty() and self.places is None:
            found = f"has no row, only the columns {', '.join(self.frame.columns)}"
            raise Fault(Table(self.table), found, advice=("Fill it, or ", GiveTable(Table(self.table))))

    def row(self, place: int) -> int:
        return self.rows_before + (place if self.places is None else int(self.places[place])) + 1

    def exploded(self, names: Sequence[str], separator: str | None, parameter: str) -> "RawColumns":
        """Return the table with one row per element of the lists in these columns; empty lists have none."""
        if separator is not None:
            texts = [name for name in names if self._column(name, parameter).dtype == pl.String]
            lists = [self.lists(name, parameter, separator) for name in texts]
            return replace(self, frame=self.frame.with_columns(lists)).exploded(names, None, parameter)
        expected = f"its lists must be as long as those of {names[0]!r}"
        counts = list[pl.Series]()
        for name in names:
            column = self._column(name, parameter)
            if not isinstance(column.dtype, pl.List):
                self._refuse(column, parameter, "it must hold lists, an element per interaction")
            counts.append(column.list.len().fill_null(0))
            self._refuse_where(counts[-1] != counts[0], column, parameter, expected)
        return self._with_rows(lambda table: table.explode(*names, empty_as_null=False, keep_nulls=False))

    def holds(self, name: str, values: Sequence[bool | float | str], parameter: str) -> pl.Series:
        """Return whether each row of a column has one of some values, ignoring blanks around texts."""
        column = self._column(name, parameter)
        if column.dtype.is_nested():
            self._refuse(column, parameter, "it must hold one value per row")
        of_table = self.frame[name].dtype
        if isinstance(of_table, pl.Decimal) and of_table.scale:  # a part, or an update, may have whole numbers alone
            column = column.cast(pl.Float64)
        wanted = pl.Series(values, dtype=column.dtype, strict=False)
        unfit = wanted.is_null()
        if column.dtype.is_integer():  # which would take 0.5 for 0
            unfit |= pl.Series(values, dtype=pl.Float64, strict=False) % 1 != 0
        elif column.dtype == pl.String:  # "true" or "True"?
            unfit |= pl.Series([isinstance(value, bool) for value in values], dtype=pl.Boolean)
        if unfit.any():
            self._refuse(column, parameter, f"it is to be compared with {values[unfit.arg_true()[0]]!r}")
        return (_stripped(column) if column.dtype == pl.String else column).is_in(wanted.implode()).fill_null(False)

    def where(self, kept: pl.Series) -> "RawColumns":
        return self._with_rows(lambda table: table.filter(kept))

    def _with_rows(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> "RawColumns":
        places = pl.int_range(self.frame.height, eager=True) if self.places is None else self.places
        changed = change(self.frame.with_columns(places.alias(PLACE)))
        return replace(self, frame=changed.drop(PLACE), places=changed[PLACE])

    def ids(self, name: str, parameter: str, known: pl.Series | None = None) -> pl.Series:
        """Read ids, as those of a log are if there is one, see `ids.canonical_as`."""
        column = self._column(name, parameter)
        try:
            return canonical(column) if known is None else canonical_as(column, known)
        except IdError as error:
            self._refuse(column, parameter, error.expected, error.unfit)

    def padded_ids(self, name: str) -> int:
        """Count the text ids with blanks around them, which `ids` removes."""
        column = self.frame[name]
        return int((column.str.strip_chars(BLANKS) != column).sum()) if column.dtype == pl.String else 0

    def numbers(self, name: str, parameter: str) -> pl.Series:
        """Read numbers, which may be text, as ``Float64``; NaN counts as missing."""
        column, expected = self._column(name, parameter), "it must hold numbers"
        if column.dtype == pl.Boolean:
            self._refuse(column, parameter, expected)
        return self._numeric(column, parameter, expected).cast(pl.Float64)

    def marks(self, name: str, parameter: str) -> pl.Series:
        """Read numbers as `numbers` does; Booleans, and words such as true and false or yes and no, are 1 and 0."""
        column, expected = self._column(name, parameter), "it must hold numbers, true and false, or yes and no"
        if column.dtype == pl.String:
            words = {word: str(mark) for pair in WORDS_OF_MARKS for mark, word in enumerate(pair)}
            column = _stripped(column).str.to_lowercase().replace(words)
        return self._numeric(column, parameter, expected).cast(pl.Float64)

    def flags(self, name: str, parameter: str) -> pl.Series:
        """Read indicators as ``Boolean``; a missing one is false."""
        expected = "an indicator is 0 or 1"
        column = self._numeric(self._column(name, parameter), parameter, expected)
        self._refuse_where(~column.cast(pl.Float64).is_in([0, 1]), column, parameter, expected)
        return column.cast(pl.Boolean).fill_null(False)

    def texts(self, name: str, parameter: str) -> pl.Series:
        """Read text as ``String``, stripped and on one line; empty texts count as missing.

        If all values are whole floats, or midnights, the ``.0``, or the time, is dropped.
        """
        column = self._column(name, parameter)
        if column.dtype.is_nested():
            self._refuse(column, parameter, "it must hold one value per row; one of lists takes no `separator`")
        try:
            text = _short(column).cast(pl.String)
        except pl.exceptions.PolarsError:
            self._refuse(column, parameter, "it must hold texts, numbers, dates or times")
        return _stripped(text.str.replace_all(BREAKS, " "))

    def holds_lists(self, name: str) -> bool:
        return isinstance(self.frame.schema.get(name), pl.List)

    def lists(self, name: str, parameter: str, separator: str | None) -> pl.Series:
        """Read several texts per row as ``List(String)``, each stripped and on one line, without empty ones.

        Texts are split at the separator; without one, the column must hold lists.
        """
        column = self._column(name, parameter)
        if separator == WRITTEN_LISTS and column.dtype == pl.String:
            lists = self._written_lists(column, parameter)
        elif separator is not None:
            lists = self.texts(name, parameter).str.split(separator)
        elif isinstance(column.dtype, pl.List) and not column.dtype.inner.is_nested():
            lists = column.cast(pl.List(pl.String))
        else:
            self._refuse(column, parameter, "it must hold lists of texts, or text with a `separator`")
        value = pl.element().str.replace_all(BREAKS, " ").str.strip_chars()
        return lists.list.eval(value.filter(value != ""))

    def _written_lists(self, column: pl.Series, parameter: str) -> pl.Series:
        text = _stripped(column)
        distinct = text.unique().drop_nulls()
        values = pl.Series([_written_list(each) for each in distinct], dtype=pl.List(pl.String))
        unfit = text.is_in(distinct.filter(values.is_null()).implode())
        self._refuse_where(unfit, column, parameter, "a list written as text looks like ['a', 'b']")
        return text.to_frame("text").join(
            pl.DataFrame({"text": distinct, column.name: values}), on="text", how="left", maintain_order="left"
        )[column.name]

    def times(self, names: Sequence[str], parameter: str) -> pl.Series:
        """The column of the time; of several, their texts, joined by blanks."""
        if len(names) == 1:
            return self._column(names[0], parameter)
        texts = [self.texts(name, parameter) for name in names]
        joined = pl.concat_str(texts, separator=" ").alias(", ".join(names))
        return pl.select(joined).to_series()

    def seconds(self, names: Sequence[str], parameter: str, time_format: str, format_parameter: str) -> pl.Series:
        """Read seconds since the epoch as ``Int64``, rounded down; times without a zone are UTC.

        The format is a key of ``UNIX_UNITS`` or a strptime format, both for text or numbers, such as 20210131; columns
        of dates or times need none.
        """
        column, expected = self.times(names, parameter), f"it cannot be read as {time_format!r}"
        if column.dtype in (pl.Date, pl.Datetime):
            return column.dt.epoch("s")
        if not (column.dtype == pl.String or column.dtype.is_numeric()):
            self._refuse(column, format_parameter, expected)
        if time_format not in UNIX_UNITS:
            return self._parsed(_stripped(_short(column)), time_format, format_parameter).dt.epoch("s")
        ticks = self._numeric(column, format_parameter, expected).cast(pl.Int64, strict=False)
        return ticks // UNIX_UNITS[time_format]  # infinity counts as missing

    def _parsed(self, column: pl.Series, time_format: str, parameter: str) -> pl.Series:
        if time_format.endswith("%z"):  # which reads no names
            column = column.str.replace(r"(UTC|GMT)$", "Z")
        times = column.str.to_datetime(time_format.replace("%z", "%#z"), strict=False)  # which reads Z and +00, too
        unreadable = (times.is_null() & column.is_not_null()).arg_true()
        if len(unreadable):
            first = unreadable[0]
            found = (
                f"has {len(unreadable):,} of {len(column):,} values that do not match the format {time_format!r}, the "
            )
            found += f"first is {column[first]!r} in row {self.row(first):,}"
            advice = "Change ", Parameter(parameter), ", or correct the file"
            raise Fault(Column(column.name, Table(self.table)), found, advice=advice)
        return times

    def _numeric(self, column: pl.Series, parameter: str, expected: str) -> pl.Series:
        """Return numbers or Booleans, and text that is numbers throughout as such."""
        if column.dtype == pl.String:
            text = _stripped(column)
            whole = text.cast(pl.Int64, strict=False)
            numbers = whole if whole.null_count() == text.null_count() else text.cast(pl.Float64, strict=False)
            self._refuse_where(numbers.is_null() & text.is_not_null(), column, parameter, expected)
            return numbers.fill_nan(None) if numbers.dtype.is_float() else numbers
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            self._refuse(column, parameter, expected)
        return column

    def _column(self, name: str, parameter: str) -> pl.Series:
        columns = dict.fromkeys(self.frame.columns)
        # Readers append something to the second of two columns of one name.
        twice = [other for other in columns if f"{other}.1" in columns or f"{other}_duplicated_0" in columns]
        if name not in columns:
            advice: list[str | Term] = [NameColumn(Parameter(parameter))]
            block, _, field = parameter.partition("[")
            if none := f"`{block}: []`" if field else NULL if parameter.endswith((".title", ".rating")) else None:
                advice += [" (", none, " where there are none)"]
            if twice:
                advice.append(f", and name each column once in the file, which has {', '.join(twice)} twice")
            found = f"has no column {name!r}, only: {', '.join(each for each in columns if each != ROW)}"
            raise Fault(Table(self.table), found, advice=tuple(advice))
        if name in twice:
            raise Fault(Table(self.table), f"has the column {name!r} twice", advice="Name each column once in the file")
        column = self.frame[name]
        if column.dtype.is_decimal():  # NUMERIC, in SQL
            whole = column.cast(pl.Int64, strict=False)
            is_exact = (whole == column).all() and whole.null_count() == column.null_count()
            column = whole if is_exact else column.cast(pl.Float64)
        return column.fill_nan(None) if column.dtype.is_float() else column

    def _refuse_where(self, unfit: pl.Series, column: pl.Series, parameter: str, expected: str) -> None:
        if unfit.any():
            self._refuse(column, parameter, expected, unfit)

    def _refuse(self, column: pl.Series, parameter: str, expected: str, unfit: pl.Series | None = None) -> NoReturn:
        if unfit is None:
            unfit = column.is_not_null()
            if column.dtype == pl.String:  # a single word makes text of a column of numbers
                unfit &= column.cast(pl.Float64, strict=False).is_null()
        rows = unfit.arg_true()
        example = f" (row {self.row(rows[0]):,} holds {column.gather(rows[:1]).to_list()[0]!r})" if len(rows) else ""
        retype = ", correct the file, or load the column with another type", Loading(Table(self.table))
        advice = "Change ", Parameter(parameter), *retype
        subject = Column(column.name, Table(self.table))
        raise Fault(subject, f"is of type {column.dtype}{example}", expected, advice)


def _stripped(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def _written_list(text: str) -> list[str] | None:
    """The elements of a list that a text writes down, as texts; None for a text that is no list.

    Examples:
        >>> _written_list("['a, b', 7, None]"), _written_list('["c", null]'), _written_list("a")
        (['a, b', '7'], ['c'], None)
    """
    try:
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values = json.loads(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    is_flat = isinstance(values, list | tuple | set) and not any(isinstance(each, list | dict) for each in values)
    return [str(value) for value in values if value is not None] if is_flat else None


def _short(column: pl.Series) -> pl.Series:
    """Convert whole floats to integers, and midnights to dates."""
    if column.dtype.is_float() and ((column % 1 == 0) & (column.abs() < 2**63)).all():
        return column.cast(pl.Int64)
    is_dates = column.dtype == pl.Datetime and (column.dt.truncate("1d") == column).all()
    return column.dt.date() if is_dates else column
