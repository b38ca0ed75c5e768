"""Which line of a delimited file polars cannot read: its own errors name the value and the column at most."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

UNREADABLE = (pl.exceptions.ComputeError, pl.exceptions.SchemaError)
"""Errors of ``polars.read_csv`` that a line can be the cause of."""


@dataclass(frozen=True)
class BrokenLine:
    """The first line that cannot be read."""

    number: int  # its place in the file, from 1, every line counted; the first one, where quoted breaks make it several
    text: str
    columns: list[str]  # of the lines before it, if any


def find_broken_line(content: bytes, **load_args: Any) -> BrokenLine | None:
    r"""The first line at which ``polars.read_csv(content, **load_args)`` fails; None where it does not.

    Whether it fails on the file's first n lines is asked of polars itself, for about log2(lines) values of n, so that
    every option means what it means there.

    Examples:
        >>> find_broken_line(b"id;title\n1;'A\nB'\none;C\n", separator=";", quote_char="'", schema={
        ...     "id": pl.Int64, "title": pl.String})
        BrokenLine(number=4, text='one;C', columns=['id', 'title'])
    """
    ends, line_numbers = _records(content, load_args.get("eol_char", "\n"), load_args.get("quote_char", '"'))

    def columns(records: int) -> list[str] | None:
        try:
            return pl.read_csv(content[: ends[records]], **load_args).columns
        except pl.exceptions.NoDataError:
            return []
        except UNREADABLE:
            return None

    first = bisect_left(range(len(ends)), True, key=lambda records: columns(records) is None)
    if first == len(ends):
        return None
    before = first - 1
    text = content[ends[before] : ends[first]].decode(errors="replace").rstrip()
    return BrokenLine(int(line_numbers[before]), text, columns(before) or [])


def _records(content: bytes, eol: str, quote: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Where 0, 1, … records end, and the number of the line that follows; a quoted line break ends none."""
    characters = np.frombuffer(content, np.uint8)
    breaks = characters == ord(eol)
    open_quotes = np.logical_xor.accumulate(characters == ord(quote)) if quote else np.zeros_like(breaks)
    ends = np.concatenate([[0], np.flatnonzero(breaks & ~open_quotes) + 1])
    line_numbers = np.searchsorted(np.flatnonzero(breaks), ends) + 1
    return np.append(ends, len(content)), line_numbers
