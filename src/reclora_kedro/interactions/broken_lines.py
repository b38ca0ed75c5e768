"""Which line of a raw file cannot be read: the readers' own errors name the value or the column at most."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

LONGEST_QUOTE = 200  # characters of a broken line that an error shows

UNREADABLE = (pl.exceptions.ComputeError, pl.exceptions.SchemaError)
"""Errors of ``polars.read_csv`` that a line can be the cause of."""

OF_THE_FILE = ("has_header", "skip_rows", "skip_lines", "skip_rows_after_header", "new_columns", "schema_overrides")
"""Arguments of ``polars.read_csv`` that say how a file begins, or that a schema takes the place of."""


@dataclass(frozen=True)
class BrokenLine:
    """The first line that cannot be read."""

    number: int  # its place in the file, from 1, every line counted; the first one, where quoted breaks make it several
    text: str
    columns: list[str]  # of the lines before it, if any
    stray_quote: int | None = None  # the line with a quotation mark that joins lines, where it is a mere character


def find_broken_line(content: bytes, **load_args: Any) -> BrokenLine | None:
    r"""The first line at which ``polars.read_csv(content, **load_args)`` fails; None where it does not.

    Whether it fails on the file's first n lines is asked of polars itself, for about log2(lines) values of n, so that
    every option means what it means there. Where an odd quotation mark joins lines, the one that fails without the mark
    is the first, or the one with the mark if none does.

    Examples:
        >>> find_broken_line(b"id;title\n1;'A\nB'\none;C\n", separator=";", quote_char="'", schema={
        ...     "id": pl.Int64, "title": pl.String})
        BrokenLine(number=4, text='one;C', columns=['id', 'title'], stray_quote=None)
        >>> find_broken_line(b'id,title,year\n1,12" disc,1999\n2,A,no\n3,7" disc,1985\n', schema={
        ...     "id": pl.Int64, "title": pl.String, "year": pl.Int64})
        BrokenLine(number=3, text='2,A,no', columns=['id', 'title', 'year'], stray_quote=2)
    """
    quote = load_args.get("quote_char", '"')
    ends, line_numbers = _records(content, load_args.get("eol_char", "\n"), quote)

    def schema(records: int) -> pl.Schema | None:
        try:
            return pl.read_csv(content[: ends[records]], **load_args).schema
        except pl.exceptions.NoDataError:
            return pl.Schema()
        except UNREADABLE:
            return None

    first = bisect_left(range(len(ends)), True, key=lambda records: schema(records) is None)
    if first == len(ends):
        return None
    before = first - 1
    record, number, sound = content[ends[before] : ends[first]], int(line_numbers[before]), schema(before)
    columns = list(sound or [])
    if sound and quote and quote.encode() in record and "columns" not in load_args:
        rest = {name: value for name, value in load_args.items() if name not in OF_THE_FILE}
        plain = find_broken_line(record, **rest | {"has_header": False, "quote_char": None, "schema": sound})
        if plain is None:
            return BrokenLine(number, record.decode(errors="replace").splitlines()[0], columns, stray_quote=number)
        if quote not in plain.text:
            return BrokenLine(number + plain.number - 1, plain.text, columns, stray_quote=number)
    return BrokenLine(number, record.decode(errors="replace").rstrip(), columns)


class _Constant(str):
    """NaN or an infinity, which JSON does not have."""


def find_broken_json(content: bytes) -> str | None:
    r"""What is wrong with the first of lines of JSON that is none, and in which column; None where all are sound.

    Examples:
        >>> find_broken_json(b'{"user": 1}\n{"user": NaN}\n')
        "Line 2 holds NaN in column 'user', which is no JSON: write null."
        >>> find_broken_json(b'{"user": 1}\n[2]\n')
        "Line 2 is no JSON object: '[2]'."
    """
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.decode(errors="replace").rstrip("\r")
        try:
            record = json.loads(text, parse_constant=_Constant) if text.strip() else {}
        except ValueError:
            record = None
        if not isinstance(record, dict):
            return f"Line {number:,} is no JSON object: {text[:LONGEST_QUOTE]!r}."
        for name, value in record.items():
            if isinstance(value, _Constant):
                return f"Line {number:,} holds {value} in column {name!r}, which is no JSON: write null."
    return None


def find_broken_value(file: str, load_args: Mapping[str, Any]) -> str | None:
    """The first value of a file that is not of the type that ``dtype`` states, or what else pandas cannot read."""
    kinds = load_args.get("dtype")
    kinds = kinds if isinstance(kinds, Mapping) else {}
    try:
        text = pd.read_csv(file, **{**load_args, "dtype": str})
    except ValueError as error:
        stray = "A quotation mark joins lines: where it is a character, set `quoting: 3` in load_args."
        return stray if "EOF inside string" in str(error) else None
    for name, kind in kinds.items():
        if name in text and _is_unfit(text[name], kind, len(text)):
            row = bisect_left(range(1, len(text) + 1), True, key=partial(_is_unfit, text[name], kind))
            return f"Column {name!r} is to be {kind}, but row {row + 1:,} holds {text[name].iloc[row]!r}."
    return None


def _is_unfit(values: pd.Series, kind: Any, rows: int) -> bool:
    try:
        values[:rows].astype(kind)
    except (ValueError, TypeError, OverflowError):
        return True
    return False


def _records(content: bytes, eol: str, quote: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Where 0, 1, … records end, and the number of the line that follows; a quoted line break ends none."""
    characters = np.frombuffer(content, np.uint8)
    breaks = characters == ord(eol)
    open_quotes = np.logical_xor.accumulate(characters == ord(quote)) if quote else np.zeros_like(breaks)
    ends = np.concatenate([[0], np.flatnonzero(breaks & ~open_quotes) + 1])
    line_numbers = np.searchsorted(np.flatnonzero(breaks), ends) + 1
    return np.append(ends, len(content)), line_numbers
