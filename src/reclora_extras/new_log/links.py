"""Find the column of a log whose ids another table describes."""

from dataclasses import dataclass
from math import sqrt

import polars as pl

from reclora_extras.new_log.columns import (
    ID_WORDS,
    ITEM_WORDS,
    PROFILE_WORDS,
    QUANTITY_WORDS,
    RATING_WORDS,
    TIME_WORDS,
    USER_WORDS,
    Column,
    id_likelihood,
    mean,
    tokens,
)
from reclora_extras.new_log.files import ROWS, RawFile
from reclora_extras.new_log.log import SHOWN, is_list_of_impressions, likeliest_id
from reclora_kedro.ingestion.raw_tables import WRITTEN_LISTS

LEAST_SHARE = 0.2  # of a column's ids that a table must have to describe them
NEARLY_UNIQUE = 0.9  # distinct values of a key per row
NO_IDS = RATING_WORDS | QUANTITY_WORDS | TIME_WORDS


@dataclass(frozen=True)
class Link:
    """A table, its key, and the column of the log whose ids it describes.

    Args:
        entity: `USER_WORDS` or `ITEM_WORDS`.
        share: share of the column's distinct ids in the sample that the table's sample has.
    """

    table: RawFile
    key: Column
    column: Column
    entity: frozenset[str]
    share: float


def links(log: RawFile, tables: list[RawFile]) -> list[Link]:
    """Return which tables describe ids of the log, first those with most of the ids and with texts."""
    found = [link for table in tables if (link := _link(log, table)) is not None]
    return sorted(found, key=lambda link: (round(link.share, 1), _has_texts(link)), reverse=True)


def _has_texts(link: Link) -> bool:
    """Whether a table has words for its ids, and does not name users and items, as tags by users do."""
    others = [column for column in link.table.columns if column.name != link.key.name]
    return any(column.is_text and not column.is_url for column in others) and not names_both_ids(link.table)


def names_both_ids(table: RawFile) -> bool:
    """Whether a table has columns of users and of items by their names, as a log does."""
    return all(likeliest_id(table.columns, words) is not None for words in (USER_WORDS, ITEM_WORDS))


def seems_another_log(log: RawFile, table: RawFile) -> bool:
    return names_both_ids(table) or table.sample.columns == log.sample.columns


def _link(log: RawFile, table: RawFile) -> Link | None:
    """Return the likeliest pair of a column of the log and a key: unique, of the same name, with the same ids."""
    keys = {key.name: ids_of(key) for key in table.columns}
    pairs = []
    for column in log.columns:
        ids = ids_of(column)
        for key in table.columns if len(ids) else ():
            met = int(ids.is_in(keys[key.name].implode()).sum())
            share, reverse = met / len(ids), met / max(len(keys[key.name]), 1)
            named = _likeness_of_names(column, key, table) if log.has_names and table.has_names else 0
            is_sampled = max(log.sample.height, table.sample.height) >= ROWS
            if share >= LEAST_SHARE or (is_sampled and named == 2):
                is_unique = key.distinct >= NEARLY_UNIQUE * len(key.values)
                entity = _entity(column, log, table, key)
                pairs += [((is_unique, named, sqrt(share * reverse)), column, key, entity, share)] if entity else []
    if not pairs:
        return None
    (is_unique, *_), column, key, entity, share = max(pairs, key=lambda pair: pair[0])
    return Link(table, key, column, entity, share) if is_unique or not seems_another_log(log, table) else None


def ids_of(column: Column) -> pl.Series:
    """Return the distinct ids of a column as texts, also of one with lists of ids; none if it holds no ids."""
    if column.words & NO_IDS or (column.raw.dtype.is_nested() and not column.is_list):
        return pl.Series(dtype=pl.String)
    if column.is_list:
        return column.values.explode().cast(pl.String).drop_nulls().unique()
    if is_list_of_impressions(column):
        return column.text.str.extract_all(SHOWN).explode().str.replace(r"-[01]$", "").drop_nulls().unique()
    if column.separator == WRITTEN_LISTS:
        return column.text.str.strip_chars("[]").str.split(",").explode().str.strip_chars(" '\"").unique()
    if column.is_id or column.is_text or column.words & ID_WORDS:
        text = column.text.str.replace(r"\.0$", "") if column.is_whole_float else column.text
        return text.unique()
    return pl.Series(dtype=pl.String)


def _likeness_of_names(column: Column, key: Column, table: RawFile) -> int:
    """Return 2 if a column has the name of a key, 1 if it has the name of the key or of the table in part, else 0."""
    words = {word.removesuffix("s") for word in column.words - ID_WORDS}
    if column.name == key.name and words:
        return 2
    stem = tokens(table.path.name.partition(".")[0])
    return int(bool(words & {word.removesuffix("s") for word in [*stem, *key.words - ID_WORDS]}))


def _entity(column: Column, log: RawFile, table: RawFile, key: Column) -> frozenset[str] | None:
    """Return the entity of a column: by its name, by the names of others, or by what the table tells of it."""
    if is_list_of_impressions(column):
        return ITEM_WORDS
    likelihoods = {words: id_likelihood(column, words) for words in (ITEM_WORDS, USER_WORDS)}
    if any(likelihoods.values()):
        return max(likelihoods, key=lambda words: likelihoods[words])
    named = [words for words in likelihoods if likeliest_id(log.columns, words) is not None]
    if len(named) == 2:
        return None  # it describes neither
    if named:
        return USER_WORDS if named == [ITEM_WORDS] else ITEM_WORDS
    others = [each for each in table.columns if each.name != key.name]
    has_titles = any(each.is_text and mean(each.text.str.contains(" ")) > 0.2 for each in others)
    describes_people = any(each.words & PROFILE_WORDS for each in others) or not has_titles
    return USER_WORDS if describes_people else ITEM_WORDS
