"""What the columns of raw tables mean, by structure before words.

A table whose key is unique describes the table in which the same ids repeat. Users have several items and items several
users; what another column decides, such as the country of a user or the day of an order, is neither. Names of columns
add to that what they can. Where two readings are close, three sentences of each are shown and the likelier one is asked
for; `Guess.doubts` keeps what was decided without an answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from math import sqrt
from pathlib import Path
from typing import Any

import polars as pl

from kedro_provenance.errors import Fault
from reclora_kedro.errors import Column as TableColumn
from reclora_kedro.errors import NameIds, Table
from reclora_kedro.ingestion import lexicon
from reclora_kedro.ingestion.column_values import (
    CLOCKS,
    LAST_YEARS,
    LEAST_IN_THEM,
    TIME_FORMATS,
    Column,
    are_plausible,
    examples,
    has_clock,
    id_likelihood,
    mean,
    plain,
    seconds_by,
    tokens,
)
from reclora_kedro.ingestion.events import TAKEN_NAMES
from reclora_kedro.ingestion.raw_tables import OPINIONS, WORDS_OF_MARKS, WRITTEN_LISTS, RawColumns
from reclora_kedro.ingestion.tables import NAMELESS, TableFormat, find_format, sample_file, typed, typed_tables

AskUser = Callable[[str, Sequence[str], str], str]
"""Asks a question: its text, the possible answers (none: any), and the guess; returns the answer."""

ROW_NUMBER = "place"  # name of the column that numbers the rows of a log without times
YES, NO, NONE = "yes", "no", "none"
SCALES = ((1, 5), (0.5, 5), (0, 5), (1, 7), (1, 10), (0, 10), (1, 20), (0, 100), (-10, 10))
MOST_RATINGS = 101  # distinct values of a column that may hold ratings, such as tenths up to 10
LEAST_EVIDENCE = -9  # of users and items, below which a log is refused
MANY_KINDS = 20  # values from which on what an item decides may be the better items, as artists are of songs
CLOSE = 1.0  # difference in evidence below which two readings are asked for
LEAST_REPEATED = 0.5  # share of the users that must have two events
DECIDES = 0.95  # share of the repeated ids with one value of a column, from which on they decide it
LEAST_IDS = 4  # repeated ids that can show that
LEAST_SHARE = 0.2  # of a column's ids that a table must have to describe them
NEARLY_UNIQUE = 0.95  # distinct values of a key per row
LEAST_SHOWN = 0.2  # share of the items of a click history that lists of impressions must show, too
MARKS = {frozenset(pair): pair[1] for pair in (("0", "1"), ("0.0", "1.0"), *WORDS_OF_MARKS)}  # values, and the positive


@dataclass(frozen=True)
class RawTable:
    """A raw table, or a sample of it."""

    path: Path  # file, or folder of parquet files; for a frame, what messages call it
    form: TableFormat
    sample: pl.DataFrame
    is_whole: bool = True  # whether the sample has all rows
    parts: "Parts | None" = None
    exploded: Mapping[str, Any] = field(default_factory=dict)  # types of lists that the sample has taken apart

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {name: Column(name, self.sample[name]) for name in self.sample.columns}

    @property
    def columns(self) -> list[Column]:
        """Columns that have a name and values."""
        return [column for column in self._columns.values() if column.name and len(column.values)]

    @property
    def has_names(self) -> bool:
        return self.form.has_names and not all(re.fullmatch(NAMELESS.format(r"\d+"), n) for n in self.sample.columns)

    @property
    def name_words(self) -> list[str]:
        """The words of the file's name."""
        return tokens(self.path.name.partition(".")[0])

    def column(self, name: str) -> Column:
        return self._columns[name]

    def others(self, *names: str) -> list[Column]:
        """Return the columns but for some."""
        return [column for column in self.columns if column.name not in names]


@dataclass(frozen=True)
class Parts:
    """A table of rows, a table with further columns for them, and the column that joins both."""

    rows: RawTable
    columns: RawTable
    key: str

    def together(self) -> RawTable:
        """Return the joined table."""
        both = [each.sample.with_columns(pl.col(self.key).cast(pl.String)) for each in (self.rows, self.columns)]
        new = [self.key, *(name for name in both[1].columns if name not in both[0].columns)]
        sample = both[0].join(both[1].select(new).unique(self.key), on=self.key, how="left", maintain_order="left")
        return replace(self.rows, sample=sample, parts=self)


@dataclass(frozen=True)
class Link:
    """A table, its key, and the column of the log whose ids it describes."""

    table: RawTable
    key: Column
    column: Column
    share: float  # of the column's distinct ids in the sample, that the table's sample has
    is_item: float  # evidence that these are items, if positive, or users, if negative
    fit: float


@dataclass(frozen=True)
class Log:
    """The log, and the meaning of its columns, most of them as in `ingestion.interactions`."""

    table: RawTable
    user: str
    item: str
    times: list[str] = field(default_factory=lambda: [ROW_NUMBER])
    time_format: str = "unix_seconds"
    from_zero: bool = True  # whether times count from the log's beginning instead of 1970
    kind: str = "purchases"  # ratings, purchases (positives only of any kind), or impressions
    rating: str | None = None
    scale: tuple[float, float] = (1, 5)
    threshold: float = 4
    likes: float = 1  # share of them in the sample of a log of ratings
    clicked: str | None = None
    impressions: dict[str, str] | None = None
    click_history: dict[str, str] | None = None
    explode: list[str] = field(default_factory=list)
    explode_separator: str | None = None
    drop: dict[str, Any] = field(default_factory=dict)
    unknown_users: list[str] = field(default_factory=list)  # ids that stand for nobody
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    doubts: list[tuple[str, str]] = field(default_factory=list)  # what was decided without an answer, by label

    @property
    def read(self) -> list[str]:
        """Columns to read."""
        names = [self.user, self.item, *self.times, self.rating, self.clicked, *self.drop, *self.explode]
        names += [each["from"] for each in self.columns.values()]
        names += [self.click_history["column"]] if self.click_history is not None else []
        return [name for name in dict.fromkeys(names) if name not in (None, ROW_NUMBER)]


def read_raw_tables(paths: Iterable[Path]) -> list[RawTable]:
    """Sample files, or raise Fault for one that is no table; a mark of missing values in one of them is one in all."""
    forms = {path: find_format(path) for path in paths}
    samples = {path: sample_file(path, form) for path, form in forms.items()}
    frames, marks = typed_tables({path: sample for path, (sample, _) in samples.items()}, forms)
    nulls = {"nulls": tuple(marks)}
    return [
        RawTable(path, form.model_copy(update=nulls if form.kind == "csv" else {}), frames[path], samples[path][1])
        for path, form in forms.items()
    ]


# ---- which table is what


def choose_log(tables: Sequence[RawTable]) -> RawTable:
    """Return the log: the table whose repeated ids others describe, joined with the table of its orders, if any."""
    log = max(tables, key=lambda table: _likeness_to_a_log(table, tables))
    if names_both_ids(log) or (parts := _parts_of_a_log(log, tables)) is None:
        return log
    return parts.together()


def _likeness_to_a_log(table: RawTable, tables: Sequence[RawTable]) -> tuple[Any, ...]:
    others = [other for other in tables if other is not table]
    described, describing = (
        sum(max(link.fit, 0) for link in links if link is not None)
        for links in ([find_link(table, other) for other in others], [find_link(other, table) for other in others])
    )
    repeated = [column for column in table.columns if _may_be_id(column)]
    has_times = any(is_named_time(column) and column.seconds_format for column in table.columns)
    return round(described - describing, 1), names_both_ids(table), len(repeated) > 1, has_times, table.sample.height


def names_both_ids(table: RawTable) -> bool:
    """Whether a table has columns of users and of items by their names, as a log does."""
    return all(any(id_likelihood(column, words) for column in table.columns) for words in (lexicon.USER, lexicon.ITEM))


def _parts_of_a_log(log: RawTable, tables: Sequence[RawTable]) -> Parts | None:
    """Return lines of orders, which have the items, and the orders, which have the users and times, by their key."""
    for lines, orders in permutations(tables, 2):
        if lines.form.kind != orders.form.kind or any(id_likelihood(each, lexicon.USER) for each in lines.columns):
            continue
        has_user = any(id_likelihood(column, lexicon.USER) for column in orders.columns)
        lacks_times = all(column.seconds_format is None for column in lines.columns if column.numbers is None)
        has_times = lacks_times and any(each.seconds_format for each in orders.columns if each.numbers is None)
        for key in orders.columns if has_user or (has_times and lines is log) else ():
            is_shared = key.name in lines.sample.columns and lines.column(key.name).distinct < lines.sample.height
            has_ids = any(each.is_id and _may_be_id(each) for each in orders.others(key.name))
            is_order = bool(key.words & lexicon.ORDER) or (has_times and has_ids)
            if is_shared and key.is_id and key.distinct == len(key.values) and is_order:
                return Parts(lines, orders, key.name)
    return None


def find_link(log: RawTable, table: RawTable) -> Link | None:
    """Return the likeliest pair of a repeated column and a key: unique, with the same ids, then of the same name."""
    pairs, has_names = [], log.has_names and table.has_names
    for key in table.columns:
        keys, is_unique = key.ids, key.distinct >= NEARLY_UNIQUE * len(key.values) and not key.is_list
        for column in log.columns if len(keys) else ():
            ids = column.ids
            if not len(ids) or (column.distinct == len(column.values) and not column.holds_several):
                continue
            met = int(ids.is_in(keys.implode()).sum())
            share, reverse = met / len(ids), met / len(keys)
            named = 2 if column.is_slate else _likeness_of_names(column, key, table) if has_names else 0
            if column.words & lexicon.ORDER and log.has_names and named < 2:
                continue
            if share >= LEAST_SHARE or (named == 2 and not (log.is_whole and table.is_whole)):
                fit = sqrt(share * reverse) if is_unique else -1
                pairs.append(((is_unique, named == 2, round(fit, 1), named, fit), column, key, share))
    if not pairs:
        return None
    pairs.sort(key=lambda pair: pair[0], reverse=True)
    (is_unique, _, _, named, fit), column, key, share = pairs[0]
    if not is_unique and (seems_another_log(log, table) or named < 2):
        return None
    rival = next((pair for pair in pairs if pair[1] is not column and pair[0][0]), None)
    is_clear = rival is None or fit - rival[0][-1] > 0.15 or named == 2
    return Link(table, key, column, share, _is_item(column, table, key) * (1 if is_clear else 0.4), fit)


def seems_another_log(log: RawTable, table: RawTable) -> bool:
    return names_both_ids(table) or table.sample.columns == log.sample.columns


def _singular(words: Iterable[str]) -> set[str]:
    return {word.removesuffix("s") for word in words}


def _likeness_of_names(column: Column, key: Column, table: RawTable) -> int:
    """Return 2 if a column has the name of a key, 1 if it has the name of the key or of the table in part, else 0."""
    words = _singular(column.words - lexicon.ID)
    if column.name == key.name and (words or column.words - {"id"}):
        return 2
    return int(bool(words & _singular([*table.name_words, *key.words - lexicon.ID])))


def _is_item(column: Column, table: RawTable, key: Column) -> float:
    """Return the evidence that a table describes items (positive) or users (negative)."""
    if column.is_slate:
        return 9
    stem, others = _singular(table.name_words), table.others(key.name)
    evidence = float(
        sum(id_likelihood(each, lexicon.ITEM) - id_likelihood(each, lexicon.USER) for each in (column, key))
    )
    evidence += 2 * bool(stem & _singular(lexicon.ITEM)) - 2 * bool(stem & _singular(lexicon.USER))
    evidence += 2 * any(each.is_text and mean(each.text.str.contains(" ")) > 0.2 for each in others)
    evidence -= 1.5 * min(sum(bool(each.words & lexicon.PROFILE) for each in others), 2)
    return evidence - 1.5 * (not any(each.is_text and not each.is_url for each in others))


# ---- the log


def read_log(table: RawTable, links: Iterable[Link], ask: AskUser, known: Mapping[str, str]) -> Log:
    """Guess the meaning of a log's columns, also by tables that describe its ids, see `guess_tables.guess`.

    Fault is raised for a log without users or items, or most of whose users have one event, and for times that are all
    the same, and times or ratings of which some are none.
    """
    evidence = {link.column.name: link.is_item for link in reversed([*links])}
    slates = next((column for column in table.columns if column.is_slate), None)
    lists, separator, exploded = ([], None, table) if slates is not None else _exploded(table)
    reading = _Reading(exploded, evidence, ask)
    user, item = reading.ids(known) if slates is None else (reading.user_of(slates), slates)
    times = reading.times({user.name, item.name})
    left, meaning = exploded.others(user.name, item.name, *times[0]), dict[str, Any]()
    if slates is not None:
        meaning = _impressions(left, slates)
    elif (rating := reading.rating(left)) is not None:
        meaning = _scale_of(rating)
    elif (clicked := reading.clicked(left)) is not None:
        meaning = {"kind": "impressions", "clicked": clicked.name}
    left = [each for each in left if each.name not in (meaning.get("rating"), meaning.get("clicked"))]
    drop = reading.unwanted(left)
    columns = reading.weights(left, drop) if meaning.get("kind") != "impressions" else {}
    log = Log(
        exploded,
        user.name,
        item.name,
        *times,
        explode=lists,
        explode_separator=separator,
        unknown_users=_nobody(user),
        doubts=reading.doubts,
        columns=columns,
        **{**meaning, "drop": meaning.get("drop", {}) | drop},
    )
    if slates is None:
        _require_repeats(log, ask)
    return log


def _require_repeats(log: Log, ask: AskUser) -> None:
    """Refuse a log most of whose users have one event, or all of whose times are the same."""
    table = Table(str(log.table.path))
    if log.times != [ROW_NUMBER] and all(log.table.column(name).distinct < 2 for name in log.times):
        time = log.table.column(log.times[0])
        found = f"has the time {examples(time, 1)} throughout", "by it, histories have no order"
        advice = "Give the log a column with the time of each event, or leave this one out to read rows in their order"
        raise Fault(TableColumn(time.name, table), *found, advice)
    if not log.table.is_whole:
        return  # of some rows, most users may have one
    counts = log.table.sample.select(log.user).drop_nulls().group_by(log.user).len()["len"]
    share = mean(counts > 1)
    several = f"{share:.0%} have two events or more"
    question = f"Of the {len(counts):,} users in column {log.user!r}, {several}: are they users?"
    if len(counts) > 1 and share < LEAST_REPEATED and ask(question, [YES, NO], NO) == NO:
        raise Fault(
            table,
            f"has too few events per user: of the {len(counts):,} users in column {log.user!r}, {several}",
            "at least half must, because recommendations are based on what a user had before",
            "If another column has the users, name it user_id; if not, give a log that covers more of their events",
        )


def _exploded(table: RawTable) -> tuple[list[str], str | None, RawTable]:
    """Return columns of lists that belong together as they are equally long, their separator, and a row per element."""
    found, alike = dict[str, pl.Series](), dict[tuple[Any, ...], list[str]]()
    marks = {column.name: column.list_separator for column in table.columns if column.is_list or column.list_separator}
    for name, mark in marks.items():
        found[name] = RawColumns(table.sample, "log").lists(name, "lists", mark) if mark else table.sample[name]
        alike.setdefault((mark, *found[name].list.len()), []).append(name)
    of_items = [name for name, mark in marks.items() if mark in (None, WRITTEN_LISTS) and _lists_items(table, name)]
    several = [names for (_, *lengths), names in alike.items() if len(names) > 1 and len({*lengths}) > 1]
    together = max(several, key=len, default=of_items[:1])
    if not together:
        return [], None, table
    sample = table.sample.with_columns(found[name].alias(name) for name in together)
    sample = typed(sample.explode(together, empty_as_null=False, keep_nulls=False))
    exploded = {name: table.sample.schema[name] for name in together}
    return together, marks[together[0]], replace(table, sample=sample, exploded=exploded)


def _lists_items(table: RawTable, name: str) -> bool:
    """Whether lists are those of items: by name, or as no other column may hold items."""
    words = table.column(name).words
    if words & lexicon.LIST:
        return False
    is_named = bool(_singular(words) & lexicon.ITEM)
    return is_named or not any(id_likelihood(each, lexicon.ITEM) for each in table.others(name))


def _impressions(left: list[Column], slates: Column) -> dict[str, Any]:
    """Return how lists of impressions are read, and which column lists items clicked before, that many of them show."""
    shares = {each.name: mean(each.elements(" ").unique().is_in(slates.ids.implode())) for each in left}
    listing = [each.name for each in left if each.text.str.contains(" ").any() and shares[each.name] >= LEAST_SHOWN]
    return {
        "kind": "impressions",
        "impressions": {"separator": " ", "clicked": "-1", "not_clicked": "-0"},
        "click_history": {"column": listing[0], "separator": " "} if listing else None,
    }


def is_named_time(column: Column) -> bool:
    return column.raw.dtype.is_temporal() or bool(column.words & lexicon.TIME and not column.words & lexicon.NO_TIME)


def is_mark(column: Column) -> bool:
    """Whether the values are 0 and 1, or two words for them."""
    return positive_mark(column) is not None


def positive_mark(column: Column) -> str | None:
    """Return the value of a column of two marks that stands for yes, in lower case; None if it has others."""
    return MARKS.get(frozenset(column.text.str.to_lowercase().unique()))


def _may_be_id(column: Column) -> bool:
    """Whether a column may hold users or items: ids, codes or names, some of which come again."""
    is_time = column.seconds_format is not None and (column.numbers is None or is_named_time(column))
    if (
        column.raw.dtype.is_nested()
        or column.raw.dtype.is_temporal()
        or is_time
        or not 1 < column.distinct < len(column.values)
        or (is_mark(column) and not _named_id(column))
        or (column.numbers is not None and not (column.is_whole_float or column.is_padded))
    ):
        return False
    return column.is_id or column.is_code or (column.is_text and column.mean_length <= 80)


class _Reading:
    """The reading of a log whose lists are taken apart."""

    def __init__(self, table: RawTable, evidence: Mapping[str, float], ask: AskUser) -> None:
        self.table, self.evidence, self.ask = table, evidence, ask
        self.doubts = list[tuple[str, str]]()
        self.chosen = list[Column]()  # users and items
        self._decided = dict[tuple[str, str], bool]()

    def decides(self, column: Column, other: Column) -> bool:
        """Whether each repeated value of a column comes with one value of another, as an item does with its title."""
        key = column.name, other.name
        if key not in self._decided:
            pairs = self.table.sample.select(key=column.name, value=pl.col(other.name).cast(pl.String, strict=False))
            counts = pairs.drop_nulls().group_by("key").agg(pl.len(), pl.col("value").n_unique())
            several = counts.filter(pl.col("len") > 1)
            self._decided[key] = several.height >= LEAST_IDS and mean(several["value"] == 1) >= DECIDES
        return self._decided[key]

    # ---- users and items

    def ids(self, known: Mapping[str, str]) -> tuple[Column, Column]:
        """Return the columns of users and items, after a question if another reading is close."""
        candidates = [each for each in self.table.columns if _may_be_id(each) or each.name in known.values()]
        of_each = {each: self._evidence_of_one(each) for each in candidates}
        pairs = permutations(candidates, 2)
        scored = {(u.name, i.name): self._evidence(u, i, of_each[u][0], of_each[i][1]) for u, i in pairs}
        for place, what in enumerate(("user", "item")):
            scored = {pair: score for pair, score in scored.items() if known.get(what, pair[place]) == pair[place]}
        readings = sorted(scored, key=lambda pair: scored[pair], reverse=True)
        if not readings or (scored[readings[0]] < LEAST_EVIDENCE and len(known) < 2):
            self._refuse_ids(candidates)
        close = [pair for pair in readings[:4] if scored[readings[0]] - scored[pair] < CLOSE]
        chosen = readings[0]
        if len(close) > 1:
            shown = {f"{n}": f"users {user}, items {item}" for n, (user, item) in enumerate(close, 1)}
            question = f"Which columns of {self.table.path.name} have the users and the items?"
            for (number, text), pair in zip(shown.items(), close, strict=True):
                question += "\n     ".join([f"\n  {number}: {text}", *self.sentences(*pair)])
            answer = self.ask(f"{question}\n", [*shown], "1")
            chosen = close[int(answer) - 1]
            others = "; ".join(text for number, text in shown.items() if number != answer)
            self.doubts.append(("or else", f"{shown[answer]} is how the log is read; almost as likely: {others}"))
        self.chosen = [self.table.column(name) for name in chosen]
        return self.chosen[0], self.chosen[1]

    def user_of(self, slates: Column) -> Column:
        """Return the column of the users to whom lists of impressions were shown."""
        candidates = [column for column in self.table.columns if column.is_id and column.distinct > 1]
        repeated = [column for column in candidates if column.distinct < len(column.values)] or candidates
        if not repeated:
            self._refuse_ids(candidates)
        self.chosen = [max(repeated, key=lambda each: id_likelihood(each, lexicon.USER)), slates]
        return self.chosen[0]

    def _refuse_ids(self, candidates: list[Column]) -> None:
        names = ", ".join(column.name for column in candidates) or "none"
        advice = _unpacked(self.table)
        raise Fault(
            Table(str(self.table.path)),
            "has no pair of columns with users and items",
            "ids of both must repeat, with several items per user and several users per item, but it has "
            f"{', '.join(self.table.sample.columns)}, of which these may be ids: {names}",
            advice or (NameIds(),),
        )

    def _evidence(self, user: Column, item: Column, *sides: float) -> float:
        """Return the evidence that two columns are users and items, from that for each of the two."""
        evidence = sum(sides) + (2 * LEAST_EVIDENCE if min(sides) < -1 else 0)
        if self.decides(user, item) or self.decides(item, user):
            evidence -= 4
        places = self.table.sample.columns
        evidence += 0.4 * (places.index(user.name) < places.index(item.name))
        evidence += 1.0 * (user.is_id and item.is_text and not (item.is_id or item.is_code))
        return evidence + 0.5 * (self._runs(user) - self._runs(item))

    def _runs(self, column: Column) -> float:
        """Return how much a log is grouped by a column, from 0 to 1, as logs sorted by user are."""
        changes = int((column.raw != column.raw.shift()).sum()) + 1
        rows = max(len(column.raw) - column.distinct, 1)
        return max(0.0, 1 - (changes - column.distinct) / rows)

    def _evidence_of_one(self, column: Column) -> tuple[float, float]:
        """Return the evidence that a column holds users, and that it holds items."""
        words = column.words if self.table.has_names else set[str]()
        user, item = (id_likelihood(column, kind) if words else 0 for kind in (lexicon.USER, lexicon.ITEM))
        linked, others = self.evidence.get(column.name, 0.0), self.table.others(column.name)
        either = 1.5 * bool(linked) - 3 * bool(words & lexicon.ORDER)
        if not linked:
            either -= 2 * bool(words & lexicon.NO_ID) + 2 * bool(words & lexicon.AMOUNT)
        times = (each for each in self.table.columns if each.seconds_format is not None and self._is_time(each))
        either -= 3 * any(self.decides(column, each) for each in times if each.distinct > 2)
        if not (user or item or linked):
            is_decided = any(
                _may_be_id(each)
                and self.decides(each, column)
                and not (self.decides(column, each) and column.is_id >= each.is_id)
                for each in others
            )
            either -= (2.5 if column.distinct < MANY_KINDS else 1.5) * is_decided + 1.5 * _is_rating(column)
            either -= 1.5 * (column.is_text and not column.is_id and not column.is_code and column.distinct < 20)
        either += min(column.distinct, 50) / 50  # kinds of things are few
        either -= 8 * column.raw.null_count() / max(len(column.raw), 1)  # rows without an id are dropped
        if column.is_id or column.is_code:  # such as `user_name`, where no column has a plainer name
            user += bool(words & lexicon.USER) * (not user)
            item += (bool(words & lexicon.ITEM) or column.is_url) * (not item)
        titles = [each for each in others if each.is_text and mean(each.text.str.contains(" ")) > 0.5]
        is_titled = any(self.decides(column, each) and each.distinct > 0.5 * column.distinct for each in titles)
        item_score = item + 2 * is_titled + 0.5 * max(linked, 0)
        profiles = [each for each in others if each.words & lexicon.PROFILE and words]
        user_score = user + 0.5 * max(-linked, 0) + any(self.decides(column, each) for each in profiles)
        user_score += 3 * (mean(column.text.str.contains(r"^\S+@\S+\.\w+$")) > 0.9)
        return either + user_score - item_score * 0.5, either + item_score - user_score * 0.5

    def sentences(self, user: str, item: str) -> list[str]:
        """Return three events in words, as these columns would have it."""
        left = self.table.others(user, item)
        rating = next((each.name for each in left if each.words & lexicon.RATING and each.numbers is not None), None)
        time = next((each.name for each in left if is_named_time(each) and each.seconds_format), None)
        rows = self.table.sample.drop_nulls([user, item]).unique(user, maintain_order=True).head(3)
        template = "user {} took item {}" if rating is None else "user {} rated item {} with {}"
        template += "" if time is None else " on {}"
        read = [name for name in (user, item, rating, time) if name is not None]
        return [plain(template.format(*(row[name] for name in read))) for row in rows.to_dicts()]

    # ---- times

    def _is_time(self, column: Column) -> bool:
        """Whether plausible times are times: by name, as dates are written, or as numbers that grow."""
        if column.raw.dtype.is_temporal() or is_named_time(column):
            return True
        if column.words & lexicon.NO_TIME and self.table.has_names:
            return False
        if column.numbers is None:
            return True
        is_growing = mean(seconds_by(column.text, str(column.seconds_format)).diff() >= 0) > 0.9
        return (is_growing or column.distinct > 0.5 * len(column.values)) and not _named_id(column)

    def times(self, ids: set[str]) -> tuple[list[str], str, bool]:
        """Return columns of the time, their format, and whether they count from the log's beginning."""
        columns = self.table.others(*ids)
        named = [column for column in columns if is_named_time(column)]
        told = [column for column in columns if column.seconds_format is not None and self._is_time(column)]
        if self.table.has_names and not [column for column in told if column in named]:
            self._refuse_odd_times(named)
        decided = [each for each in told if any(self.decides(self.table.column(name), each) for name in ids)]
        told = [each for each in told if each not in decided or each in named] or told
        if told:
            best = max(
                told,
                key=lambda each: (
                    len(each.values) > 0.95 * len(each.raw),
                    each not in decided,
                    each.distinct > 1,
                    each in named,
                    has_clock(each.seconds_format or ""),
                ),
            )
            time_format = self._day_or_month_first(best)
            if not has_clock(time_format) and (more := _with_clock(best, time_format, columns)) is not None:
                return [best.name, more[0]], more[1], False
            return [best.name], time_format, False
        ordinal = [each for each in columns if each.words & lexicon.ORDINAL and each.is_whole and each.distinct > 2]
        counted = [each for each in ordinal if not _named_id(each) and each.bounds[0] >= 1]
        return ([counted[0].name] if counted else [ROW_NUMBER]), "unix_seconds", True

    def _refuse_odd_times(self, columns: list[Column]) -> None:
        """Refuse a column of times of which some are none."""
        for column in columns:
            if _named_id(column):
                continue
            some = column.text.unique(maintain_order=True).head(20)
            for each in (each for each in TIME_FORMATS if mean(are_plausible(some, each)) > 0.5):
                self._refuse_odd(column, are_plausible(column.text, each), f"times of the format {each}")
            is_number = _are_numbers(column.text)
            if Column(column.name, column.text.filter(is_number)).time_formats:
                self._refuse_odd(column, is_number, "times as numbers")

    def _refuse_odd(self, column: Column, fitting: pl.Series, what: str) -> None:
        """Refuse a column most of whose values are what its name says, and some are not."""
        if 0.5 < mean(fitting) < 1:
            raise Fault(
                TableColumn(column.name, Table(str(self.table.path))),
                f"seems to hold {what}, but {(~fitting).sum():,} of {len(fitting):,} values are not, the first of "
                f"them {column.text.filter(~fitting)[0]!r}",
                advice="Correct these, leave missing ones empty, or rename the column if it holds something else",
            )

    def _day_or_month_first(self, column: Column) -> str:
        guess, formats = column.seconds_format, column.time_formats
        assert guess is not None
        if len(formats) < 2:
            return guess
        some = column.text.unique(maintain_order=True).head(3)
        read = {each: pl.from_epoch(seconds_by(some, each)).dt.strftime("%-d %B %Y") for each in formats}
        shown = "".join(f"\n  {each}: {', '.join(days)}" for each, days in read.items())
        return self.ask(f"Column {column.name!r} has {examples(column, 3)}: which format?{shown}\n", formats, guess)

    # ---- ratings, clicks, weights, and what is no interaction

    def _is_free(self, column: Column) -> bool:
        """Whether neither a user nor an item decides a column, as they do prices and ages."""
        return not any(self.decides(each, column) for each in self.chosen)

    def rating(self, left: list[Column]) -> Column | None:
        """Return the column of ratings: with the plainest name, or of a scale, which no user or item decides."""
        if self.table.has_names:
            named = [each for each in left if each.words & lexicon.RATING and each.distinct > 1 and not is_mark(each)]
            if ratings := [each for each in named if each.numbers is not None]:
                return min(ratings, key=lambda each: (not self._is_free(each), len(each.words)))
            for each in named:
                self._refuse_odd(each, _are_numbers(each.text), "ratings")
            if any(is_mark(each) and each.words & (lexicon.CLICK | lexicon.RATING) for each in left):
                return None
        candidates = [each for each in left if _is_rating(each) and self._is_free(each)]
        if self.table.has_names:
            candidates = [each for each in candidates if not each.words & lexicon.NO_RATING]
        if not candidates:
            return None
        best = max(candidates, key=_likeness_to_ratings)
        if not self.table.has_names and len(candidates) == 1:
            return best
        guess = best.name if _likeness_to_ratings(best) > 0 else NONE
        shown = "".join(f"\n  {each.name}: {examples(each, 3)}" for each in candidates)
        names = [*(each.name for each in candidates), NONE]
        chosen = self.ask(f"Which column of {self.table.path.name} has the ratings, if any?{shown}\n", names, guess)
        others = ", ".join(name for name in names if name != chosen)
        self.doubts.append(("or else", f"ratings are read of {chosen}; they may be of {others}"))
        return None if chosen == NONE else self.table.column(chosen)

    def clicked(self, left: list[Column]) -> Column | None:
        """Return a column of marks whose name is that of a click or rating, or that an answer says has clicks."""
        marks = [column for column in left if is_mark(column)]
        if self.table.has_names:
            words, opinions = lexicon.CLICK | lexicon.RATING, {yes for _, yes in OPINIONS}
            named = [column for column in marks if column.words & words or positive_mark(column) in opinions]
            return min(named, key=lambda column: not column.words & {"click", "clicked", "clicks"}, default=None)
        for column in marks:
            no, yes = sorted(column.text.str.to_lowercase().unique())
            share = f"{mean(column.text.str.to_lowercase() == yes):.1%} are {yes}"
            question = f"Column {column.name} of {self.table.path.name} has {no} and {yes} ({share}): is {yes} a click?"
            if self._is_free(column) and self.ask(question, [YES, NO], YES) == YES:
                return column
        return None

    def unwanted(self, left: list[Column]) -> dict[str, Any]:
        """Return rules for rows that are no interactions: returns, cancelled orders, refunds, quantities below one."""
        drop = dict[str, Any]()
        for column in left:
            if is_mark(column):
                if column.words & lexicon.UNDONE:
                    yes = positive_mark(column)
                    drop[column.name] = [value for value in column.text.unique() if value.lower() == yes]
            elif _is_kind(column):
                if undone := [value for value in column.text.unique().sort() if {*tokens(value)} & lexicon.UNDONE]:
                    drop[column.name] = undone
            elif column.words & lexicon.QUANTITY and column.numbers is not None and column.bounds[0] <= 0:
                drop[column.name] = {"at_most": 0}
            elif column.words & lexicon.QUANTITY and column.text.str.contains(r"^-\d").any():  # beside "1,000"
                drop[column.name] = {"values": ["0"], "starts_with": ["-"]}
            elif self._has_refunds(column):
                drop[column.name] = {"starts_with": ["-"]}
            elif column.words & lexicon.ORDER and mean(column.text.str.contains(r"^\d+$")) > 0.5:
                prefixes = column.text.str.extract(r"^([A-Za-z]+)\d+$").drop_nulls().unique().sort().to_list()
                drop |= {column.name: {"starts_with": prefixes}} if prefixes else {}
        return drop

    def _has_refunds(self, column: Column) -> bool:
        """Whether the few negative amounts of a column are refunds: by its name, or of pairs that paid before."""
        if column.numbers is None or not 0 < (column.numbers < 0).mean() < 0.3:
            return False
        if column.words & lexicon.PRICE:
            return True
        user, item = (each.name for each in self.chosen)
        rows = self.table.sample.select(user, item, value=pl.Series(column.raw.cast(pl.Float64, strict=False)))
        paid = rows.filter(pl.col("value") > 0).select(user, item).unique()
        refunds = rows.filter(pl.col("value") < 0)
        return refunds.join(paid, on=[user, item], how="semi").height > 0.9 * refunds.height

    def weights(self, left: list[Column], drop: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return declarations of columns that say how much an event counts: kinds of events, plays, quantities."""
        for column in left:
            if _is_kind(column):
                return self._kinds_of_events(column, drop)
        best = next((each for each in left if self._may_weigh(each, drop) and self._is_free(each)), None)
        if best is None:
            return {}
        question = f"Column {best.name!r} has {examples(best, 4)}: does an event count by it?"
        if self.ask(question, [YES, NO], YES) != YES:
            return {}
        return {_column_name(best.name): {"from": best.name, "kind": "weight"}}

    def _may_weigh(self, column: Column, drop: Mapping[str, Any]) -> bool:
        """Whether a column has numbers by whose name events count: of plays, hours or pieces, but not of money."""
        if column.numbers is None or is_mark(column) or is_named_time(column) or _named_id(column):
            return False
        is_positive = column.bounds[0] >= 0 or drop.get(column.name) == {"at_most": 0}
        words = column.words
        is_money = words & (lexicon.PRICE - lexicon.QUANTITY) or ("amount" in words and not column.is_whole)
        is_count = bool(words & (lexicon.QUANTITY | lexicon.PLAY))
        return is_count and not is_money and is_positive and column.distinct > 2

    def _kinds_of_events(self, column: Column, drop: dict[str, Any]) -> dict[str, dict[str, Any]]:
        counts = column.text.value_counts(sort=True)
        rows = dict(counts.iter_rows())
        kept = [value for value in counts[column.name] if value not in drop.get(column.name, ())]
        if len(kept) < 2:
            return {}
        weights = {value: _weight_of_kind(value) for value in kept}
        shown = ", ".join(f"{value} {rows[value] / len(column.text):.1%}" for value in counts[column.name])
        guess = ", ".join(f"{value} {weight:g}" for value, weight in weights.items())
        question = (
            f"Column {column.name!r} has kinds of events ({shown}). Which count, and how much? {guess}. Type those "
            "that are interactions, with a weight each or without, separated by commas."
        )
        typed_weights = dict[str, float]()
        for part in map(str.strip, self.ask(question, [], guess).split(",")):
            value, _, weight = part.rpartition(" ")
            is_weighed = bool(value) and re.fullmatch(r"\d*\.?\d+", weight) is not None
            typed_weights[value if is_weighed else part] = float(weight) if is_weighed else weights.get(part, 1)
        if left_out := [value for value in counts[column.name] if value not in typed_weights]:
            drop[column.name] = left_out
        if len({*typed_weights.values()}) < 2:
            return {}
        return {_column_name(column.name): {"from": column.name, "kind": "event", "weights": typed_weights}}


def _column_name(name: str) -> str:
    """Return the name of a declared column, which is in lower case and none of those that every log has."""
    stem = re.sub(r"[^a-z0-9_]", "_", "_".join(tokens(name))).strip("_") or "weight"
    return f"{stem if stem[0].isalpha() else f'n_{stem}'}{'_' * (stem in TAKEN_NAMES)}"


def _weight_of_kind(value: str) -> float:
    words = {*tokens(value), value.lower().replace("_", "").replace(" ", "")}
    return max((weight for weight, kinds in lexicon.EVENT_WEIGHTS.items() if words & kinds), default=1.0)


def _is_kind(column: Column) -> bool:
    """Whether a column has kinds of events, or states of orders."""
    if not column.is_text or column.distinct > 12:
        return False
    words = {word for value in column.text.unique() for word in tokens(value)}
    return bool(words & (lexicon.UNDONE.union(*lexicon.EVENT_WEIGHTS.values())))


def _named_id(column: Column) -> bool:
    return max(id_likelihood(column, words) for words in (lexicon.USER, lexicon.ITEM)) > 0


def _are_numbers(text: pl.Series) -> pl.Series:
    return text.cast(pl.Float64, strict=False).is_not_null()


def _with_clock(day: Column, day_format: str, columns: list[Column]) -> tuple[str, str] | None:
    """Return the column of the time of day that belongs to a column of days, and their joint format."""
    for column in columns:
        is_clock = column.numbers is None and column.text.str.contains(r"^\d\d?:\d\d(:\d\d)?( ?[AaPp][Mm])?$").all()
        if column is day or not (is_clock or column.words & lexicon.CLOCK):
            continue
        frame = RawColumns(pl.DataFrame([day.raw, column.raw]).drop_nulls(), "sample")
        for clock in CLOCKS:
            time_format = f"{'%Y-%m-%d' if day.raw.dtype.is_temporal() else day_format} {clock}"
            with suppress(ValueError, pl.exceptions.PolarsError):
                seconds = frame.seconds([day.name, column.name], "timestamp", time_format, "timestamp_format")
                if mean(seconds.is_between(*LAST_YEARS)) >= LEAST_IN_THEM:
                    return column.name, time_format
    return None


def _unpacked(table: RawTable) -> str:
    """Return what to do about columns of records, such as a customer with an id or the items of an event; else ""."""
    kinds = table.sample.schema.items()
    records = [name for name, kind in kinds if isinstance(kind, pl.Struct)]
    lists = [name for name, kind in kinds if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)]
    if not (records or lists):
        return ""
    reader = {"ndjson": "read_ndjson", "json": "read_json"}.get(table.form.kind, "read_parquet")
    steps = "".join(f".explode({name!r})" for name in lists)
    steps += "".join(f".unnest({name!r}, separator='_')" for name in [*records, *lists])
    return (
        f"columns of records, {', '.join([*records, *lists])}, have fields that are no columns yet: write them as such "
        f"by polars, `pl.{reader}({table.path.name!r})"
        f"{steps}.write_parquet('{table.path.stem}-flat.parquet')`, and give the command that file"
    )


def _is_rating(column: Column) -> bool:
    """Whether the few numbers of a column end where a scale of ratings does."""
    if column.numbers is None or not 2 < column.distinct <= MOST_RATINGS:
        return False
    low, high = column.bounds
    steps = 2 if column.is_whole else 10
    return low >= -1 and high in {top for _, top in SCALES} and column.distinct <= steps * (high - low + 1)


def _likeness_to_ratings(column: Column) -> float:
    """Return above 0 if values are distributed as ratings are: most of them not at the lowest, as quantities are."""
    assert column.numbers is not None
    low, high = column.bounds
    at_lowest = float((column.numbers == low).mean())
    return 2 / column.distinct + 0.05 - at_lowest + (float(column.numbers.mean()) - low) / (high - low) * 0.1


def _scale_of(rating: Column) -> dict[str, Any]:
    """Return the rating scale, the rating from which a row is a like, and values that are no ratings."""
    assert rating.numbers is not None
    counts = Counter(rating.numbers.tolist())
    is_no_rating = -1 in counts and len(counts) > 2 and sorted(counts)[1] >= 0 and max(counts) > 1
    dropped = [-1] if is_no_rating else []
    is_whole = all(value % 1 == 0 for value in counts)
    lowest = max(counts.get(1, 0), counts.get(2, 0))
    if len(counts) - len(dropped) > 2 and is_whole and max(counts) > 2 and counts.get(0, 0) > 2 * lowest:
        dropped.append(0)  # far more frequent than the lowest ones: no rating was given
    rated = {value: count for value, count in counts.items() if value not in dropped}
    low, high = min(rated), max(rated)
    fitting = [scale for scale in (*SCALES, (-1, 1), (0, 1)) if scale[0] <= low and high <= scale[1]]
    halves = [scale for scale in fitting if is_whole == (scale[0] != 0.5)] or fitting
    scale = min(halves, key=lambda each: (each[1] - high, low - each[0]), default=(low, high))
    step = 1 if is_whole else 0.5
    threshold = -(-(scale[0] + 0.75 * (scale[1] - scale[0])) // step) * step
    rows = sum(rated.values())

    def share(least: float) -> float:
        return sum(count for value, count in rated.items() if value >= least) / rows

    if not 0.1 <= share(threshold) <= 0.9 and len(rated) > 1:
        threshold = min(sorted(rated)[1:], key=lambda value: abs(share(value) - 0.5))
    return {
        "kind": "ratings",
        "rating": rating.name,
        "scale": scale,
        "threshold": threshold,
        "likes": share(threshold),
        "drop": {rating.name: dropped} if dropped else {},
    }


def _nobody(user: Column) -> list[str]:
    """Return ids of users with a large part of the log whose names stand for nobody, such as guests."""
    counts = user.text.value_counts(sort=True).head(3).rows()
    return [value for value, count in counts if count > 0.1 * len(user.text) and value.lower() in lexicon.NOBODY]
