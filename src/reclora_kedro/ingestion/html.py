"""HTML in raw texts: removal of tags, and replacement of entities by their characters."""

import re
from collections.abc import Iterable
from html import unescape
from html.entities import html5

import polars as pl

_END = r"""(?:\s+[\w-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>"""
_WITHIN_WORDS = "a|abbr|acronym|b|big|cite|code|em|font|i|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var"
_BETWEEN_WORDS = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|figcaption|figure|footer|h[1-6]|head|header|hr|html|"
    "iframe|img|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
)
REPLACEMENTS = {
    r"(?is)<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>": " ",
    r"(?s)<!--.*?-->": " ",
    rf"(?i)</?(?:{_WITHIN_WORDS}){_END}": "",
    rf"(?i)</?(?:{_BETWEEN_WORDS}){_END}": " ",
}
"""Patterns of known tags, which leave ``a < b``, ``<3`` and titles such as ``<Harmony/>``, and replacements."""

_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*);")


def read_html(text: pl.Series) -> pl.Series:
    """Return texts as a browser shows them, on one line; texts without HTML stay unchanged.

    Entities that were escaped several times over, such as ``&amp;amp;``, become one character. A text may become empty.

    Examples:
        >>> read_html(pl.Series(["Tom &amp; Jerry<br />&#39;s <b>Best</b>", "a < b & <3", None])).to_list()
        ["Tom & Jerry 's Best", 'a < b & <3', None]
    """
    suspects = text.str.contains("[&<]").fill_null(False).arg_true()
    plain = text.gather(suspects)
    for pattern, replacement in REPLACEMENTS.items():
        plain = plain.str.replace_all(pattern, replacement)
    plain = pl.Series([_characters(value) for value in plain], dtype=pl.String)
    changed = plain != text.gather(suspects)
    return text.clone().scatter(
        suspects.filter(changed), plain.filter(changed).str.replace_all(r"\s+", " ").str.strip_chars()
    )


def read_html_columns(table: pl.DataFrame, columns: Iterable[str | None]) -> tuple[pl.DataFrame, int]:
    """Remove HTML from columns of text, or of lists of texts; return the table and the number of rows changed.

    Columns that are not text, or not in the table, are skipped.

    Examples:
        >>> table = pl.DataFrame({"id": [1, 2], "tags": [["Q&amp;A", "x"], []]})
        >>> table, rows = read_html_columns(table, ["tags"])
        >>> table["tags"].to_list(), rows
        ([['Q&A', 'x'], []], 1)
    """
    readers = {
        pl.String: read_html,
        pl.List(pl.String): lambda lists: lists.list.eval(pl.element().map_batches(read_html, return_dtype=pl.String)),
    }
    plain = {
        name: readers[table.schema[name]](table[name])
        for name in columns
        if name is not None and table.schema.get(name) in readers
    }
    changed = pl.any_horizontal(pl.lit(False), *(pl.col(name).ne_missing(column) for name, column in plain.items()))
    return table.with_columns(**plain), table.filter(changed).height


def _characters(text: str) -> str:
    while (plain := _ENTITY.sub(_character, text)) != text:
        text = plain
    return text


def _character(entity: re.Match[str]) -> str:
    name = entity[1]
    return unescape(entity[0]) if name.startswith("#") or f"{name};" in html5 else entity[0]
