"""Canonical items and users from raw tables, with a count of every row that was dropped or changed."""

import json
import logging
import re
from collections.abc import Iterable
from html import unescape
from html.entities import html5
from typing import Any

import polars as pl

from kedro_provenance.errors import NULL, Fault, Parameter, worded
from reclora_kedro.errors import GiveTable, Table
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import FREE_TEXT, WITHDRAWN, ItemColumns, ItemTextColumns, TextField, UserColumns
from reclora_kedro.ingestion.ids import is_id, names
from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars

logger = logging.getLogger(__name__)

PROPERTIES_NAMED = 10  # of a long table, in the message about one that it lacks
REORDERING = "[\u202a-\u202e\u2066-\u2069]"
"""Characters that show the text behind them in another order, such as U+202E."""
MOST_UNTITLED = 0.1  # share of the items, beyond which it is warned of


def describe_items(
    raw_items: Any, interactions: pl.LazyFrame, columns: ItemColumns, report: CleaningReport
) -> pl.DataFrame:
    """Return the canonical items: one row per item of the log or of the raw table, sorted by item_id.

    Columns are item_id, title, and the text fields, with several values of one field separated by commas (by spaces in
    `FREE_TEXT`). Here and below, Fault names a column that is missing or unreadable, or ids that do not meet those of
    the log.

    Examples:
        >>> raw = pl.DataFrame({"id": [2, 1], "name": ["Heat (1995)", "Net, The (1995)"], "kind": ["Crime|Drama", ""]})
        >>> columns = ItemColumns(
        ...     item_id="id", title="name", missing_title="Unknown title", trailing_articles=["The"],
        ...     fields=[TextField(name="genres", column="kind", separator="|")],
        ... )
        >>> describe_items(raw, pl.LazyFrame({"item_id": [2]}), columns, CleaningReport()).rows()
        [(1, 'The Net (1995)', None), (2, 'Heat (1995)', 'Crime, Drama')]
    """
    logged = _distinct_ids(interactions, "item_id")
    if raw_items is None and columns.title is None and not columns.fields:
        report.record("items", logged.height, "rows kept; no item table, ids only")
        return logged.sort("item_id").with_columns(title=title_of_untitled(columns))
    listed = listed_rows(raw_items, "item", columns, report, logged["item_id"])
    _require_shared_ids(logged, listed, "raw_items", "ingestion.items.item_id")
    items = listed.join(logged, on="item_id", how="full", coalesce=True).sort("item_id")
    unlisted = items.height - listed.height
    kept = f"kept as {columns.missing_title!r}" if columns.title else "kept, with their ids as titles"
    report.record("items without a row", unlisted, kept)
    report.record("items with an empty title", items["title"].null_count() - unlisted, kept)
    report.record("items", items.height, f"rows kept; {logged.height:,} occur in the log")
    untitled = items["title"].null_count()
    if columns.title and untitled > MOST_UNTITLED * items.height:
        found = f"{untitled:,} of {items.height:,} items have no title and are called {columns.missing_title!r}: see "
        parameter = Parameter("ingestion.items.title")
        logger.warning(worded(found, parameter, ", and the ids of ", Table("raw_items"), "."))
    return items.with_columns(pl.col("title").fill_null(title_of_untitled(columns)))


def grown_items(items: pl.DataFrame, changes: Any) -> pl.DataFrame:
    """Return canonical items with the values of a table: known items change, and new ones follow.

    The table has item_id and some of the items' other columns and of `WITHDRAWN`; nulls change nothing. Texts are
    cleaned as those of raw tables are. Fault names a column that items lack, unfit ids, and a new item without a title.

    Examples:
        >>> items = pl.DataFrame({"item_id": [1, 2], "title": ["Heat", "Net"], "price": [9.0, 5.0]})
        >>> changes = pl.DataFrame({"item_id": [7, 2], "title": ["<b>Alien</b>", None], "price": [None, 4.0]})
        >>> grown_items(items, changes).rows()
        [(1, 'Heat', 9.0), (2, 'Net', 4.0), (7, 'Alien', None)]
    """
    table, key = as_polars(changes, "items"), "item_id"
    if unknown := [name for name in table.columns if name not in (*items.columns, WITHDRAWN)]:
        expected = f"the items have {', '.join(items.columns)}"
        raise Fault("items", f"has a column {unknown[0]!r}", expected, "Rename it, or leave it out")
    kinds = {name: "number" if kind == pl.Float64 else "text" for name, kind in items.schema.items()}
    fields = [
        {"name": each, "column": each, "kind": kinds[each]}
        for each in table.columns
        if each not in (key, "title", WITHDRAWN)
    ]
    title = "title" if "title" in table.columns else None
    columns = {"item_id": key, "title": title, "missing_title": "?", "trailing_articles": [], "fields": fields}
    settings = ItemColumns.model_validate(columns)
    rows = listed_rows(table, "item", settings, CleaningReport(), items[key], prefix="")
    if rows.height < table.height:
        found = f"has {table.height - rows.height:,} rows whose item_id is missing, repeated, or of another type"
        raise Fault("items", found, f"ids are {items.schema[key]}, each once", "Correct these rows")
    if WITHDRAWN in table.columns:
        rows = rows.with_columns(table[WITHDRAWN].cast(pl.Boolean))
        items = items if WITHDRAWN in items.columns else items.with_columns(pl.lit(False).alias(WITHDRAWN))
    new = rows.join(items, on=key, how="anti", maintain_order="left")
    if len(untitled := new.filter(pl.col("title").is_null())[key]):
        raise Fault("items", f"has no title of the new item {untitled[0]!r}", advice="Give each new item its title")
    grown = pl.concat([items, new.select(key)], how="diagonal").join(rows, on=key, how="left", maintain_order="left")
    given = [pl.coalesce(f"{name}_right", name).alias(name) for name in rows.columns if name != key]
    is_withdrawn = [pl.col(WITHDRAWN).fill_null(False)] if WITHDRAWN in items.columns else []
    return grown.with_columns(given).select(items.columns).with_columns(is_withdrawn)


def with_sent_items(items: pl.DataFrame, rows: Iterable[tuple[str, str | None]]) -> pl.DataFrame:
    """Return canonical items with what a journal has of some, their values as JSON by id, see `grown_items`.

    Columns that the items lack are left out, and so are new items without a title, as forgotten ones are.

    Examples:
        >>> items = pl.DataFrame({"item_id": [1, 2], "title": ["Heat", "Net"], "price": [9.0, 5.0]})
        >>> with_sent_items(items, [("7", '{"title": "Alien", "size": "L"}'), ("2", '{"withdrawn": true}')]).rows()
        [(1, 'Heat', 9.0, False), (2, 'Net', 5.0, True), (7, 'Alien', None, False)]
    """
    key, known = "item_id", {*items["item_id"].cast(pl.String)}
    sent = [(item, json.loads(text or "{}")) for item, text in rows if is_id(item, items.schema[key])]
    sent = [(item, values) for item, values in sent if item in known or values.get("title")]
    kinds = {name: kind for name, kind in items.schema.items() if name != key} | {WITHDRAWN: pl.Boolean()}
    columns = [
        pl.Series(name, [values.get(name) for _, values in sent], kind, strict=False)
        for name, kind in kinds.items()
        if any(name in values for _, values in sent)
    ]
    table = pl.DataFrame([pl.Series(key, [item for item, _ in sent], pl.String), *columns])
    return grown_items(items, table) if columns else items


def title_of_untitled(columns: ItemColumns) -> pl.Expr:
    """The title of an item without one: `missing_title`, or its id where no item has a title."""
    return pl.lit(columns.missing_title) if columns.title else pl.col("item_id").cast(pl.String)


def add_item_texts(
    items: pl.DataFrame, raw_item_texts: Any, columns: ItemTextColumns | None, report: CleaningReport
) -> pl.DataFrame:
    """Add the text fields of a second table to the canonical items, null for items that it lacks.

    Without ``columns`` there is no such table, and the items are returned unchanged.

    Examples:
        >>> items = pl.DataFrame({"item_id": [1, 2], "title": ["Heat", "Net"]})
        >>> columns = ItemTextColumns(item_id="id", fields=[TextField(name="description", column="plot")])
        >>> raw = pl.DataFrame({"id": [2, 3], "plot": ["A hacker.", "?"]})
        >>> add_item_texts(items, raw, columns, CleaningReport()).rows()
        [(1, 'Heat', None), (2, 'Net', 'A hacker.')]
    """
    if columns is None:
        return items
    _require_table(raw_item_texts, "item_texts")
    listed = listed_rows(raw_item_texts, "item text", columns, report, items["item_id"])
    _require_shared_ids(items.select("item_id"), listed, "raw_item_texts", "ingestion.item_texts.item_id")
    missing = items.join(listed, on="item_id", how="anti").height
    report.record("items without item texts", missing, "kept with these fields empty")
    return items.join(listed, on="item_id", how="left", maintain_order="left")


def describe_users(
    raw_users: Any, interactions: pl.LazyFrame, columns: UserColumns | None, report: CleaningReport
) -> pl.DataFrame:
    """Return the canonical users: one row per user of the log, sorted by user_id.

    Columns are user_id and the profile fields, null if unknown; without ``columns`` there is no user table.

    Examples:
        >>> columns = UserColumns(user_id="id", fields=[TextField(name="age", column="age")])
        >>> raw = pl.DataFrame({"id": [1], "age": [24]})
        >>> describe_users(raw, pl.LazyFrame({"user_id": [2, 1, 2]}), columns, CleaningReport()).rows()
        [(1, '24'), (2, None)]
    """
    logged = _distinct_ids(interactions, "user_id")
    if columns is None:
        report.record("users", logged.height, "rows kept; no user table, ids only")
        return logged.sort("user_id")
    _require_table(raw_users, "users")
    listed = listed_rows(raw_users, "user", columns, report, logged["user_id"])
    _require_shared_ids(logged, listed, "raw_users", "ingestion.users.user_id")
    silent = listed.join(logged, on="user_id", how="anti").height
    report.record("users without an interaction", silent)
    report.record("users without a profile", logged.height - (listed.height - silent), "kept with empty fields")
    report.record("users", logged.height, "rows kept")
    return logged.join(listed, on="user_id", how="left").sort("user_id")


def _require_table(raw_table: Any, block: str) -> None:
    if raw_table is None:
        table, columns = Table(f"raw_{block}"), Parameter(f"ingestion.{block}")
        advice = "Set ", columns, " to ", NULL, ", or ", GiveTable(table)
        raise Fault(table, "holds no table", (columns, " names its columns"), advice)


def listed_rows(
    raw_table: Any,
    kind: str,
    columns: ItemColumns | ItemTextColumns | UserColumns,
    report: CleaningReport,
    known: pl.Series,
    prefix: str = "raw_",
) -> pl.DataFrame:
    """Return the rows of a raw table, one per id: the id, of the log's type, the title of an item, and the fields.

    `known` are the log's ids, and messages name the table with the prefix.
    """
    block, title = f"{kind.replace(' ', '_')}s", columns.title if isinstance(columns, ItemColumns) else None
    key, parameter = "user_id" if kind == "user" else "item_id", f"ingestion.{block}"
    texts = [title, *(field.column for field in columns.fields if field.kind == "text")]
    name = f"{prefix}{block}"
    table = as_polars(raw_table, name)
    if not isinstance(columns, UserColumns) and columns.long is not None:
        report.record(f"raw {kind} properties", table.height, "rows in, gathered by item")
        table = _gathered(RawColumns(table, name), columns, parameter)
    table, rows_with_html = read_html_columns(table, texts)
    raw = RawColumns(table, name)
    own_ids, ids = (raw.ids(getattr(columns, key), f"{parameter}.{key}", log) for log in (None, known))
    listed = [ids.alias(key)]
    if isinstance(columns, ItemColumns):
        titles = pl.repeat(None, table.height, dtype=pl.String, eager=True)
        if title is not None:
            titles = raw.texts(title, f"{parameter}.title").str.replace_all(REORDERING, "")
        listed.append(_articles_first(titles, columns.trailing_articles).alias("title"))
    listed += [_field(raw, field, f"{parameter}.fields[{field.name}]").alias(field.name) for field in columns.fields]
    named = pl.DataFrame(listed).drop_nulls(key)
    unique, kept = named.unique(key, keep="first", maintain_order=True), "the first"
    if isinstance(columns, ItemColumns) and columns.title_choice != "first":
        chosen = _chosen_titles(named, columns.title_choice)
        unique = unique.drop("title").join(chosen, on=key, how="left", maintain_order="left").select(named.columns)
        kept += f", with the {columns.title_choice.replace('_', ' ')} title"
    report.record(f"raw {kind}s", table.height, "rows in")
    report.record(f"{kind} rows without an id", own_ids.null_count())
    if foreign := ids.null_count() - own_ids.null_count():
        report.record(f"{kind} rows with ids of another type than the log's", foreign)
    report.record(f"repeated {kind} rows", named.height - unique.height, f"dropped, but for {kept}")
    report.record(f"{kind} rows with HTML", rows_with_html, "tags removed, entities made characters")
    return unique


def _gathered(raw: RawColumns, columns: ItemColumns | ItemTextColumns, parameter: str) -> pl.DataFrame:
    """A row per item of a table that has one per property: lists of its distinct values, and the first title."""
    assert columns.long is not None
    title, key = columns.title if isinstance(columns, ItemColumns) else None, columns.item_id
    named = dict.fromkeys([title, *(field.column for field in columns.fields)])
    names = [name for name in named if name is not None]
    properties = raw.texts(columns.long.property, f"{parameter}.long.property").alias("property")
    values = raw.texts(columns.long.value, f"{parameter}.long.value").alias("value")
    rows = pl.DataFrame([raw.ids(key, f"{parameter}.item_id").alias(key), properties, values])
    for name in names:
        if name not in rows["property"]:
            some = ", ".join(rows["property"].drop_nulls().unique(maintain_order=True).head(PROPERTIES_NAMED))
            found = f"has no property {name!r} in column {columns.long.property!r}"
            advice = "Name one of them in ", Parameter(parameter)
            raise Fault(Table(raw.table), found, f"the first ones are {some}", advice)
    distinct = rows.drop_nulls([key, "value"]).unique(maintain_order=True)
    value, of = pl.col("value"), pl.col("property")
    wide = distinct.group_by(key, maintain_order=True).agg(value.filter(of == name).alias(name) for name in names)
    single = {title, *(field.column for field in columns.fields if field.kind == "number")} - {None}
    return wide.with_columns(pl.col(name).list.first() for name in names if name in single)


def _chosen_titles(rows: pl.DataFrame, choice: str) -> pl.DataFrame:
    """Choose one title per item: the most frequent or the longest one, the first of several."""
    rank = pl.len() if choice == "most_frequent" else pl.col("title").first().str.len_chars()
    titles = rows.drop_nulls("title").group_by("item_id", pl.col("title"), maintain_order=True).agg(rank.alias("rank"))
    ranked = titles.sort("rank", descending=True, maintain_order=True)
    return ranked.unique("item_id", keep="first", maintain_order=True).drop("rank")


def _articles_first(titles: pl.Series, articles: list[str]) -> pl.Series:
    """Change "Matrix, The (1999)" to "The Matrix (1999)", also in a second title in parentheses."""
    if not articles:
        return titles
    pattern = rf"([^()]+), ({'|'.join(map(pl.escape_regex, articles))})(\)| \(|$)"
    return titles.str.replace_all(pattern, "${2} ${1}${3}")


def _field(raw: RawColumns, field: TextField, parameter: str) -> pl.Series:
    if field.kind == "number":
        assert field.column is not None  # as its block requires
        numbers = raw.numbers(field.column, parameter)
        return numbers.set(~numbers.is_finite(), None)
    if field.column is None:
        indicators = field.indicators or []
        flags = pl.DataFrame([raw.flags(name, parameter) for name in indicators])
        names = [pl.when(name).then(pl.lit(name)) for name in indicators]
        text = flags.select(pl.concat_str(names, separator=", ", ignore_nulls=True)).to_series()
    elif field.separator is None and not raw.holds_lists(field.column):
        text = raw.texts(field.column, parameter).replace(field.values)
    else:
        value = pl.element().replace(field.values)
        values = raw.lists(field.column, parameter, field.separator)
        text = values.list.eval(value.filter(value != "")).list.join(" " if field.name == FREE_TEXT else ", ")
    return text.set(text == "", None)


def _distinct_ids(log: pl.LazyFrame, key: str) -> pl.DataFrame:
    return log.select(pl.col(key).unique()).collect(engine="streaming")


def _require_shared_ids(logged: pl.DataFrame, listed: pl.DataFrame, table: str, parameter: str) -> None:
    """Refuse a describing table that has no id of the log."""
    key = listed.columns[0]
    if logged.join(listed, on=key, how="semi").is_empty():
        own = f"and the table has {names(listed[key].sort())}" if listed.height else "and the table has no id"
        expected = f"those are {logged.schema[key]}, such as {names(logged[key].sort())}, {own}"
        advice = (
            "Change ",
            Parameter(parameter),
            ", or write the ids alike in both tables (zero-padded ones as text)",
        )
        raise Fault(Table(table), f"has none of the log's {key}s", expected, advice)


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
