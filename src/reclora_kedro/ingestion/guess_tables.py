"""What raw tables tell of the items and the users of a log, and the guess of all tables together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from reclora_kedro.ingestion import lexicon
from reclora_kedro.ingestion.column_values import Column, mean, tokens
from reclora_kedro.ingestion.config import FREE_TEXT, NAMES_OF_ITEMS
from reclora_kedro.ingestion.guess import (
    AskUser,
    Link,
    Log,
    RawTable,
    choose_log,
    find_link,
    names_both_ids,
    read_log,
    seems_another_log,
)
from reclora_kedro.ingestion.raw_tables import WRITTEN_LISTS

TRAILING_ARTICLE = r", (The|A|An|La|Le|Les)( \(|$)"
MOST_FIELDS = 6
LEAST_INDICATORS = 3  # columns of 0 and 1 that are taken for kinds of items
LEAST_KINDS, MOST_OF_A_KIND = 25, 50  # kinds of items, and items of each on average, that may stand in for titles
LONG_TEXT = 40  # characters on average, beyond which a text is no category


@dataclass(frozen=True)
class Entities:
    """A table of items or users, and its columns of ids and titles; fields are as in the parameters of ingestion."""

    table: RawTable
    key: str
    title: str | None = None
    fields: list[dict[str, Any]] = field(default_factory=list)
    long: dict[str, str] | None = None  # columns of properties and values, if the table has a row per property
    in_log: bool = False  # whether the log itself is the table
    share: float = 1  # of the log's ids, that the table has, in samples of both

    @property
    def shares_titles(self) -> bool:
        """Whether kinds of items, which are a field of them, too, stand in for titles."""
        return any(each.get("column") == self.title for each in self.fields)

    @property
    def has_trailing_articles(self) -> bool:
        """Whether titles are written as "Matrix, The (1999)"."""
        if self.long is not None or self.title is None:
            return False
        return mean(self.table.column(self.title).text.str.contains(TRAILING_ARTICLE)) >= 0.001

    @property
    def columns(self) -> list[str]:
        """Columns to read."""
        if self.long is not None:
            return [self.key, *self.long.values()]
        described = [name for each in self.fields for name in each.get("indicators", [each.get("column")])]
        return list(dict.fromkeys(name for name in [self.key, self.title, *described] if name is not None))


def read_items(link: Link) -> Entities:
    """Guess the columns of a table of items."""
    table, key = link.table, link.key
    others, rows = table.others(key.name), table.sample.height
    name = next((column for column in others if column.words & lexicon.LONG_NAMES and column.is_text), None)
    value = next((column for column in others if "value" in column.words), None)
    if name is not None and value is not None and key.distinct < rows:
        return replace(_of_properties(table, key, name, value), share=link.share)
    title = _title(others, table.has_names) or next(filter(_names_each_item, others), None)
    fields = _fields([column for column in others if column is not title], rows)
    if title is None and table.has_names:
        title = _finest_kind(others, rows)
    return Entities(table, key.name, title.name if title else None, fields, share=link.share)


def _finest_kind(columns: list[Column], rows: int) -> Column | None:
    """The column that names the kind of an item, such as product_type, most finely; None if kinds have many items."""
    kinds = [column for column in columns if column.words & lexicon.ITEM - lexicon.ID and _is_category(column, rows)]
    finest = max((column for column in kinds if column.is_text), key=lambda column: column.distinct, default=None)
    is_fine = finest is not None and finest.distinct >= max(LEAST_KINDS, rows / MOST_OF_A_KIND)
    return finest if is_fine else None


def _of_properties(table: RawTable, key: Column, name: Column, value: Column) -> Entities:
    """Read a table with a row per property: keep properties that most items have once and whose names are words."""
    rows = table.sample.select(
        key=key.name, name=pl.col(name.name).cast(pl.String), value=pl.col(value.name).cast(pl.String)
    )
    properties = list[Column]()
    for (of,), part in rows.drop_nulls().partition_by("name", as_dict=True, maintain_order=True).items():
        items, pairs = part["key"].n_unique(), part.select("key", "value").n_unique()
        if items >= 0.3 * key.distinct and pairs <= 1.5 * items and any(map(str.isalpha, of)):
            properties.append(Column(of, part["value"]))
    title = _title(properties, has_names=True)
    left = [column for column in properties if column is not title]
    free = [column for column in left if column.words & lexicon.FREE_TEXT and column.mean_length > LONG_TEXT]
    kept = [column for column in left if column in free or 1 < column.distinct <= 0.5 * len(column.values)]
    fields = [_field(column) | ({"name": FREE_TEXT} if column in free[:1] else {}) for column in kept]
    long = {"property": name.name, "value": value.name}
    return Entities(table, key.name, title.name if title else None, fields[:MOST_FIELDS], long)


def read_users(link: Link) -> Entities:
    """Guess the columns of a table of users."""
    rows = link.table.sample.height
    fields = [
        _field(column)
        for column in link.table.others(link.key.name)
        if (column.words & lexicon.PROFILE or _is_category(column, rows))
        and 1 < column.distinct <= max(0.5 * rows, 2)
        and not column.is_url
    ]
    return Entities(link.table, link.key.name, fields=fields[:MOST_FIELDS], share=link.share)


def items_in_log(log: Log) -> Entities | None:
    """Return titles and fields of items in the log itself, if any: columns with about one value per item."""
    if log.explode or log.impressions:
        return None
    table = log.table.parts.rows if log.table.parts is not None else log.table
    item, has_names = log.table.column(log.item), log.table.has_names
    others = {column: _values_per_id(log, log.item, column) for column in table.others(*log.read)}
    titled = [column for column, values in others.items() if values <= 1.5 and column.distinct > 0.5 * item.distinct]
    title = _title(titled, has_names)
    if title is None and item.is_text and not item.is_id:
        title = item  # items by their titles
    words = [each for each, values in others.items() if each is not title and not each.is_list and values <= 1.2]
    fields = _fields(words, item.distinct) if has_names else []
    return Entities(table, log.item, title.name if title else None, fields, in_log=True) if title or fields else None


def users_in_log(log: Log) -> Entities | None:
    """Return profiles of users in the log itself, if any."""
    table = log.table.parts.columns if log.table.parts is not None else log.table
    others = [each for each in table.others(*log.read) if each.words & lexicon.PROFILE and each.distinct > 1]
    fields = [_field(column) for column in others if _values_per_id(log, log.user, column) <= 1.05]
    return Entities(table, log.user, fields=fields[:MOST_FIELDS], in_log=True) if fields else None


def _values_per_id(log: Log, key: str, column: Column) -> float:
    """Return the mean number of distinct values per id; infinite if the sample has too few rows per id."""
    if column.raw.dtype.is_nested():
        return float("inf")
    pairs = log.table.sample.select(key, column.name).drop_nulls()
    ids = pairs[key].n_unique()
    return pairs.n_unique() / ids if ids and pairs.height >= 1.5 * ids else float("inf")


def _title(columns: list[Column], has_names: bool) -> Column | None:
    likely = [column for column in columns if _title_likelihood(column, has_names)]
    return max(likely, key=lambda column: _title_likelihood(column, has_names), default=None)


def _title_likelihood(column: Column, has_names: bool) -> int:
    """Return how well a column's name and values fit a title; 0 if not at all."""
    if not column.is_text or column.separator == WRITTEN_LISTS or column.is_url:
        return 0
    if not has_names:
        return int(mean(column.text.str.contains(" ")) > 0.2 and column.separator is None)
    words = column.words
    if words & lexicon.NO_TITLE or words & lexicon.USER:
        return 0
    if words & lexicon.TITLE:
        return 6
    if words & lexicon.NAME:
        return 5 if words & lexicon.ITEM or len(words) == 1 else 3
    if words & lexicon.FREE_TEXT:
        return 2 if column.mean_length <= 2 * LONG_TEXT and "review" not in words else 0
    return 1 if words & lexicon.ITEM and not words & lexicon.ID and not column.is_id else 0


def _names_each_item(column: Column) -> bool:
    """Whether a column, whatever its name, has some words of its own for nearly every item, such as "Bezeichnung"."""
    is_named_otherwise = column.words & (lexicon.NO_TITLE | lexicon.USER | lexicon.TIME)
    is_short = column.mean_length <= LONG_TEXT and column.distinct > 0.8 * len(column.values)
    return bool(_title_likelihood(column, has_names=False) and not is_named_otherwise and is_short)


def _field(column: Column) -> dict[str, Any]:
    return {"name": _field_name(column), "column": column.name}


def item_fields(table: RawTable, key: str, title: str | None) -> list[dict[str, Any]]:
    """Return the text fields of a table of items whose ids and titles are known."""
    return _fields(table.others(key, title or key), table.sample.height)


def _fields(columns: list[Column], rows: int) -> list[dict[str, Any]]:
    """Return text fields of items: categories, lists of categories, and one free text."""
    fields = list[dict[str, Any]]()
    texts = [each for each in columns if each.is_text and not each.is_url and each.mean_length > LONG_TEXT]
    texts = [each for each in texts if each.words & lexicon.FREE_TEXT or each.separator is None]
    free = max(texts, key=lambda each: (bool(each.words & lexicon.FREE_TEXT), each.mean_length), default=None)
    for column in columns:
        mark = None if column.is_url else column.separator
        if column.is_list:
            is_field = _comes_again(column.values.explode().cast(pl.String))
        elif mark is not None:
            is_field = _comes_again(column.elements(mark)) and bool(column.is_text or column.words & lexicon.LIST)
        else:
            is_field = _is_category(column, rows) and not _has_named_twin(column, columns)
        if is_field and column is not free:
            fields.append(_field(column) | ({} if mark is None else {"separator": mark}))
    marks = [column for column in columns if column.text.is_in(["0", "1"]).all()]
    if sum(column.distinct == 2 for column in marks) >= LEAST_INDICATORS:
        fields.insert(0, {"name": "kinds", "indicators": [column.name for column in marks]})
    return [*fields[:MOST_FIELDS], *([{"name": FREE_TEXT, "column": free.name}] if free is not None else [])]


def _comes_again(elements: pl.Series) -> bool:
    known = elements.drop_nulls()
    is_short = mean(known.str.len_chars()) <= LONG_TEXT
    return bool(len(known)) and is_short and known.n_unique() <= 0.5 * len(known)


def _is_category(column: Column, rows: int) -> bool:
    """Return whether a column holds categories: words, or numbers with a category's name, that many items share."""
    few = 1 < column.distinct <= 0.5 * rows and not column.words & lexicon.TIME
    is_named = bool(column.words & lexicon.CATEGORY) and column.is_whole
    return few and (is_named or (column.is_text and column.mean_length <= LONG_TEXT and not column.is_url))


def _has_named_twin(column: Column, columns: list[Column]) -> bool:
    """Return whether another column has the words for this column's codes, such as kind_name for kind_id."""
    stem = column.words - lexicon.ID
    return bool(column.words & lexicon.ID) and any(
        other is not column and other.is_text and stem and stem <= other.words for other in columns
    )


def _field_name(column: Column) -> str:
    """Return a column's name as the name of a field.

    Examples:
        >>> _field_name(Column("Year-Of-Publication", pl.Series([1]))), _field_name(Column("rating", pl.Series([1])))
        ('year_of_publication', 'rating_')
    """
    if all(word in lexicon.LIST for word in tokens(column.name)):
        name = column.name.lower()
    else:
        name = "_".join(tokens(column.name))
    return f"{name}_" if name in NAMES_OF_ITEMS | {FREE_TEXT} else name


@dataclass(frozen=True)
class Guess:
    """A log, the tables of its items and users, and why other tables are neither."""

    log: Log
    items: Entities | None
    users: Entities | None
    unused: dict[Path, str]


def guess(
    tables: Sequence[RawTable],
    ask: AskUser,
    log: RawTable | None = None,
    known: Mapping[str, str] = MappingProxyType({}),
) -> Guess:
    """Guess which table is the log, which tables describe its items and users, and the meaning of their columns.

    Where two answers are close, `ask` is called. The log may be known, as may the columns of its "user" and "item".
    Fault is raised if it has no users or no items, or does not say enough of them.
    """
    log_table = log or choose_log(tables)
    parts = [log_table.path] if log_table.parts is None else [log_table.path, log_table.parts.columns.path]
    others = [table for table in tables if table.path not in parts]
    found = [link for table in others if (link := find_link(log_table, table)) is not None]
    found.sort(key=lambda link: (round(link.share, 1), _has_texts(link), link.fit), reverse=True)
    read = read_log(log_table, found, ask, known)
    items = next((read_items(link) for link in found if link.column.name == read.item), None)
    users = next((read_users(link) for link in found if link.column.name == read.user), None)
    items = items or items_in_log(read)
    users = users or users_in_log(read)
    used = {*parts, *(each.table.path for each in (items, users) if each is not None)}
    describing = {link.table.path for link in found}
    unused = {each.path: _why_unused(log_table, each, describing) for each in others if each.path not in used}
    return Guess(read, items, users, unused)


def _has_texts(link: Link) -> bool:
    """Whether a table has words for its ids, and is no log itself, as tags by users are."""
    others = [column for column in link.table.columns if column.name != link.key.name]
    is_description = link.fit > 0 and not names_both_ids(link.table)
    return is_description and any(column.is_text and not column.is_url for column in others)


def _why_unused(log: RawTable, table: RawTable, describing: set[Path]) -> str:
    if table.path in describing:
        return "another table describes the same ids better"
    if seems_another_log(log, table):
        return f"it seems to be another log, and {log.path.name} is read; write the rows of both to one file"
    return "it has none of the log's ids"


def ingestion_block(guess: Guess) -> dict[str, Any]:
    """Return the settings of ingestion by which the tables are read as guessed."""
    log, items, users = guess.log, guess.items, guess.users
    optional = ("explode", "explode_separator", "drop", "clicked", "impressions", "click_history", "columns")
    interactions = {name: value for name in optional if (value := getattr(log, name))}
    if log.unknown_users:
        interactions["unknown_ids"] = {"user_id": log.unknown_users}
    interactions |= {"user_id": log.user, "item_id": log.item, "rating": log.rating}
    times = log.times[0] if len(log.times) == 1 else log.times
    block: dict[str, Any] = {"interactions": interactions | {"timestamp": times, "timestamp_format": log.time_format}}
    if log.from_zero:
        block["plausible_times"] = {"first_day": date(1970, 1, 1)}
    if log.kind == "ratings":
        block |= {"rating_min": log.scale[0], "rating_max": log.scale[1], "label_threshold": log.threshold}
    block["items"] = {"title": None, "fields": []}
    if items is not None:
        block["items"] = {"item_id": items.key, **({"long": items.long} if items.long else {}), "title": items.title}
        if items.in_log and items.title is not None:
            block["items"]["title_choice"] = "most_frequent"
        if items.title is not None and not items.has_trailing_articles:
            block["items"]["trailing_articles"] = []
        block["items"]["fields"] = items.fields
    block["users"] = None if users is None else {"user_id": users.key, "fields": users.fields}
    return block
