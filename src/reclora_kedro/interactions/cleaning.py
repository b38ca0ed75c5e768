"""From raw tables to the canonical log, items and users, with every row that was dropped or changed accounted for."""

from collections import Counter
from typing import Any, Literal, Self, TypedDict

import polars as pl
from pydantic import Field, model_validator

from reclora_kedro.interactions.raw_tables import RawColumns, as_polars
from reclora_kedro.interactions.schema import EVENT_KEY, comes_after_previous
from reclora_kedro.parameters import Block


class ReportRow(TypedDict):
    """One line of the ingestion report."""

    check: str
    rows: int
    rule: str


class InteractionColumns(Block):
    """Where raw_interactions keeps each canonical column."""

    user_id: str = Field(description="column of the user's id")
    item_id: str = Field(description="column of the item's id")
    rating: str | None = Field(description="column of the rating; none: every row is a like, such as a purchase")
    timestamp: str = Field(description="column of the time of the rating")
    timestamp_format: str = Field(
        pattern=r"^(unix_seconds|unix_milliseconds|.*%.*)$",
        description="unix_seconds, unix_milliseconds, or a strptime format for text",
    )


class TextField(Block):
    """One text field: a column of the raw table, or several indicator columns gathered under one name."""

    name: str = Field(description="name of the field in the canonical table")
    column: str | None = Field(default=None, description="column that holds the text")
    separator: str | None = Field(default=None, min_length=1, description="what separates several values in it")
    indicators: list[str] | None = Field(
        default=None, min_length=1, description="0/1 columns; the field lists the names of those set"
    )
    values: dict[str, str] = Field(
        default={}, description="what a coded value stands for, empty where for nothing; others stay as they are"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.column is None) == (self.indicators is None):
            raise ValueError(f"field {self.name!r} needs either a `column` or a list of `indicators`")
        if self.indicators is not None and (self.separator is not None or self.values):
            raise ValueError(f"field {self.name!r}: `separator` and `values` want a `column`, not `indicators`")
        return self


def _distinct_names(fields: list[TextField], taken: set[str]) -> None:
    counts = Counter(field.name for field in fields)
    repeated = sorted(name for name, count in counts.items() if count > 1 or name in taken)
    if repeated:
        raise ValueError(f"fields need names of their own, but {repeated} occur twice or name a fixed column")


class ItemColumns(Block):
    """Where raw_items keeps the id, the title and the text fields of an item."""

    item_id: str = Field(description="column of the item's id")
    title: str = Field(description="column of the title")
    missing_title: str = Field(min_length=1, description="title of an item that has none")
    trailing_articles: list[str] = Field(
        description="articles moved from the end of a title to its front; none: titles stay as they are"
    )
    fields: list[TextField] = Field(description="text fields")

    @model_validator(mode="after")
    def _names(self) -> Self:
        _distinct_names(self.fields, taken={"item_id", "title"})
        return self


class UserColumns(Block):
    """Where raw_users keeps the id and the profile fields of a user."""

    user_id: str = Field(description="column of the user's id")
    fields: list[TextField] = Field(description="profile fields")

    @model_validator(mode="after")
    def _names(self) -> Self:
        _distinct_names(self.fields, taken={"user_id"})
        return self


class IngestionConfig(Block):
    """How raw tables become the canonical ones."""

    interactions: InteractionColumns
    items: ItemColumns
    users: UserColumns | None = Field(description="none: the data has no user table")
    rating_min: float = Field(description="lowest rating of the scale")
    rating_max: float = Field(description="highest rating of the scale")
    label_threshold: float = Field(description="a rating at or above it is a like")
    duplicates: Literal["highest_rating", "lowest_rating"] = Field(
        description="which of several rows with one user, item and timestamp is kept"
    )
    k_core: int = Field(ge=0, description="least interactions of a user and of an item; 0 or 1: off")

    @model_validator(mode="after")
    def _threshold_splits_the_scale(self) -> Self:
        if not self.rating_min < self.label_threshold <= self.rating_max:
            raise ValueError(
                f"label_threshold {self.label_threshold:g} gives one class only on a scale from "
                f"{self.rating_min:g} to {self.rating_max:g}: it must lie above rating_min, at most at rating_max"
            )
        return self


def clean_interactions(raw_interactions: Any, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical log, sorted by (timestamp, user_id, item_id), and what cleaning did to the raw one.

    A raw row is dropped by the first rule that it breaks, so the dropped rows and the kept ones add up to the raw ones.

    Returns:
        user_id, item_id, rating, timestamp (seconds since the epoch), label (1 = liked); and the report.

    Raises:
        ValueError: a column is missing or unreadable, or no row is left.

    Examples:
        >>> config = IngestionConfig(
        ...     interactions={
        ...         "user_id": "user",
        ...         "item_id": "item",
        ...         "rating": "stars",
        ...         "timestamp": "day",
        ...         "timestamp_format": "%Y-%m-%d",
        ...     },
        ...     items={
        ...         "item_id": "item",
        ...         "title": "name",
        ...         "missing_title": "?",
        ...         "trailing_articles": [],
        ...         "fields": [],
        ...     },
        ...     users=None,
        ...     rating_min=1,
        ...     rating_max=5,
        ...     label_threshold=4,
        ...     duplicates="highest_rating",
        ...     k_core=0,
        ... )
        >>> raw = pl.DataFrame({"user": [1, 1], "item": ["a", "b"], "stars": [5, 9], "day": ["2020-01-02"] * 2})
        >>> log, report = clean_interactions(raw, config)
        >>> log.rows()
        [(1, 'a', 5.0, 1577923200, 1)]
        >>> [(row["check"], row["rows"]) for row in report if row["rule"] == "dropped" and row["rows"]]
        [('rating outside 1 to 5', 1)]
    """
    raw_log = _typed_log(as_polars(raw_interactions), config.interactions)
    sound, faults = _drop_faulty(raw_log, config)
    distinct, repeats = _drop_repeated(sound, config.duplicates)
    core = k_core(distinct, config.k_core)
    report = [
        ReportRow(check="raw interactions", rows=raw_log.height, rule="rows in"),
        *faults,
        repeats,
        ReportRow(
            check="outside the k-core",
            rows=distinct.height - core.height,
            rule=f"dropped; k = {config.k_core}" if config.k_core > 1 else "off",
        ),
    ]
    if core.is_empty():
        raise ValueError(_nothing_left(report))

    if config.interactions.rating:
        liked, rule = pl.col("rating") >= config.label_threshold, f"rating >= {config.label_threshold:g}"
    else:
        liked, rule = pl.lit(True), "every row, as there are no ratings"
    log = core.with_columns(label=liked.cast(pl.Int8))
    positives = int(log["label"].sum())
    share = f"label 1: {rule}; {positives / log.height:.1%} of the rows kept"
    report += [
        ReportRow(check="interactions", rows=log.height, rule="rows kept"),
        ReportRow(check="positives", rows=positives, rule=share),
    ]
    return log, report


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest part of a log in which every user and every item has at least k rows.

    Users and items are dropped in turns until nothing changes; k of 0 or 1 changes nothing.

    Examples:
        >>> log = pl.DataFrame({"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 7, 8, 8]})
        >>> k_core(log, 2).rows()
        [(1, 7), (1, 8), (2, 7), (2, 8)]
    """
    enough = pl.min_horizontal(pl.len().over("user_id"), pl.len().over("item_id")) >= k
    rows_before = None
    while interactions.height != rows_before and k > 1:
        rows_before = interactions.height
        interactions = interactions.filter(enough)
    return interactions


def describe_items(
    raw_items: Any, interactions: pl.DataFrame, columns: ItemColumns
) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical items: one row for every item of the log or of the raw table, sorted by item_id.

    Returns:
        item_id, title, then the text fields, several values of one field separated by commas; and the report.

    Raises:
        ValueError: a column is missing or unreadable, or the ids don't meet those of the log.

    Examples:
        >>> raw = pl.DataFrame({"id": [2, 1], "name": ["Heat (1995)", "Net, The (1995)"], "kind": ["Crime|Drama", ""]})
        >>> columns = ItemColumns(
        ...     item_id="id",
        ...     title="name",
        ...     missing_title="Unknown title",
        ...     trailing_articles=["The"],
        ...     fields=[TextField(name="genres", column="kind", separator="|")],
        ... )
        >>> items, report = describe_items(raw, pl.DataFrame({"item_id": [2, 3]}), columns)
        >>> items.rows()
        [(1, 'The Net (1995)', None), (2, 'Heat (1995)', 'Crime, Drama'), (3, 'Unknown title', None)]
    """
    raw = RawColumns(as_polars(raw_items), "raw_items")
    title = raw.texts(columns.title, "ingestion.items.title")
    listed = pl.DataFrame(
        [
            raw.ids(columns.item_id, "ingestion.items.item_id").alias("item_id"),
            _articles_first(title, columns.trailing_articles).alias("title"),
            *_text_fields(raw, columns.fields, "ingestion.items.fields"),
        ]
    )
    known, report = _unique_rows(listed, "item_id", "item")
    logged = _logged_ids(interactions, known, "item_id", "ingestion.items.item_id")
    items = known.join(logged, on="item_id", how="full", coalesce=True).sort("item_id")
    unlisted = items.height - known.height
    report += [
        ReportRow(check="items without a row", rows=unlisted, rule=f"kept as {columns.missing_title!r}"),
        ReportRow(
            check="items with an empty title",
            rows=items["title"].null_count() - unlisted,
            rule=f"kept as {columns.missing_title!r}",
        ),
        ReportRow(check="items", rows=items.height, rule=f"rows kept; {logged.height:,} occur in the log"),
    ]
    return items.with_columns(pl.col("title").fill_null(columns.missing_title)), report


def describe_users(
    raw_users: Any, interactions: pl.DataFrame, columns: UserColumns | None
) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical users: one row for every user of the log, sorted by user_id.

    Args:
        raw_users: the raw user table, polars or pandas; not looked at where ``columns`` is None.
        interactions: the canonical log.
        columns: names of the raw columns, or None where the data has no user table.

    Returns:
        user_id, then the profile fields, null where unknown; and the report.

    Raises:
        ValueError: a column is missing or unreadable, or the ids don't meet those of the log.

    Examples:
        >>> columns = UserColumns(user_id="id", fields=[TextField(name="age", column="age")])
        >>> raw = pl.DataFrame({"id": [1], "age": [24]})
        >>> users, report = describe_users(raw, pl.DataFrame({"user_id": [2, 1, 2]}), columns)
        >>> users.rows()
        [(1, '24'), (2, None)]
    """
    if columns is None:
        users = interactions.select(pl.col("user_id").unique().sort())
        return users, [ReportRow(check="users", rows=users.height, rule="rows kept; no user table, ids only")]
    if raw_users is None:
        raise ValueError(
            "raw_users holds no table, but `ingestion.users` names its columns. "
            "Set `ingestion.users` to null, or point the catalog entry raw_users at the user table."
        )
    raw = RawColumns(as_polars(raw_users), "raw_users")
    listed = pl.DataFrame(
        [
            raw.ids(columns.user_id, "ingestion.users.user_id").alias("user_id"),
            *_text_fields(raw, columns.fields, "ingestion.users.fields"),
        ]
    )
    known, report = _unique_rows(listed, "user_id", "user")
    logged = _logged_ids(interactions, known, "user_id", "ingestion.users.user_id")
    silent = known.join(logged, on="user_id", how="anti").height
    report += [
        ReportRow(check="users without an interaction", rows=silent, rule="dropped"),
        ReportRow(
            check="users without a profile", rows=logged.height - (known.height - silent), rule="kept with empty fields"
        ),
        ReportRow(check="users", rows=logged.height, rule="rows kept"),
    ]
    return logged.join(known, on="user_id", how="left").sort("user_id"), report


def _typed_log(frame: pl.DataFrame, columns: InteractionColumns) -> pl.DataFrame:
    raw, block = RawColumns(frame, "raw_interactions"), "ingestion.interactions"
    ones = pl.repeat(1.0, frame.height, eager=True)
    ratings = raw.numbers(columns.rating, f"{block}.rating") if columns.rating else ones
    return pl.DataFrame(
        {
            "user_id": raw.ids(columns.user_id, f"{block}.user_id"),
            "item_id": raw.ids(columns.item_id, f"{block}.item_id"),
            "rating": ratings,
            "timestamp": raw.seconds(
                columns.timestamp, f"{block}.timestamp", columns.timestamp_format, f"{block}.timestamp_format"
            ),
        }
    )


def _drop_faulty(log: pl.DataFrame, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    low, high = config.rating_min, config.rating_max
    faults = {"missing user or item id": pl.col("user_id").is_null() | pl.col("item_id").is_null()}
    if config.interactions.rating:
        faults |= {
            "missing rating": pl.col("rating").is_null(),
            f"rating outside {low:g} to {high:g}": ~pl.col("rating").is_between(low, high),
        }
    faults |= {
        "missing timestamp": pl.col("timestamp").is_null(),
        "timestamp not positive": pl.col("timestamp") <= 0,
    }
    first_fault = pl.coalesce(
        pl.when(broken).then(pl.lit(number, pl.UInt8)) for number, broken in enumerate(faults.values())
    )
    log = log.with_columns(fault=first_fault)
    rows = dict(log["fault"].drop_nulls().value_counts().iter_rows())
    report = [ReportRow(check=check, rows=rows.get(number, 0), rule="dropped") for number, check in enumerate(faults)]
    return log.filter(pl.col("fault").is_null()).drop("fault"), report


def _drop_repeated(log: pl.DataFrame, kept: str) -> tuple[pl.DataFrame, ReportRow]:
    """One row an event, in the canonical order."""
    ordered = log.sort(*EVENT_KEY, "rating", descending=[False, False, False, kept == "highest_rating"])
    distinct = ordered.filter(comes_after_previous(EVENT_KEY))
    return distinct, ReportRow(
        check="repeated (user, item, timestamp)",
        rows=log.height - distinct.height,
        rule=f"dropped, but for the one with the {kept.replace('_', ' ')}",
    )


def _nothing_left(report: list[ReportRow]) -> str:
    dropped = "; ".join(f"{row['check']}: {row['rows']:,}" for row in report if row["rows"])
    return (
        f"No interaction is left after cleaning ({dropped or 'the raw table is empty'}). Check the catalog entry "
        "raw_interactions and the parameters `ingestion.rating_min`, `ingestion.rating_max` and `ingestion.k_core`."
    )


def _articles_first(titles: pl.Series, articles: list[str]) -> pl.Series:
    """From "Matrix, The (1999)" to "The Matrix (1999)", and so too in a second title given in parentheses."""
    if not articles:
        return titles
    pattern = rf"([^()]+), ({'|'.join(map(pl.escape_regex, articles))})(\)| \(|$)"
    return titles.str.replace_all(pattern, "${2} ${1}${3}")


def _text_fields(raw: RawColumns, fields: list[TextField], parameter: str) -> list[pl.Series]:
    return [_text_field(raw, field, f"{parameter} (field {field.name})").alias(field.name) for field in fields]


def _text_field(raw: RawColumns, field: TextField, parameter: str) -> pl.Series:
    if field.column is None:
        indicators = field.indicators or []
        flags = pl.DataFrame([raw.flags(name, parameter) for name in indicators])
        names = [pl.when(name).then(pl.lit(name)) for name in indicators]
        text = flags.select(pl.concat_str(names, separator=", ", ignore_nulls=True)).to_series()
    else:
        text = raw.texts(field.column, parameter)
        if field.separator is None:
            text = text.replace(field.values)
        else:
            value = pl.element().str.strip_chars().replace(field.values)
            text = text.str.split(field.separator).list.eval(value.filter(value != "")).list.join(", ")
    return text.set(text == "", None)


def _unique_rows(listed: pl.DataFrame, key: str, kind: str) -> tuple[pl.DataFrame, list[ReportRow]]:
    named = listed.drop_nulls(key)
    unique = named.unique(key, keep="first", maintain_order=True)
    return unique, [
        ReportRow(check=f"raw {kind}s", rows=listed.height, rule="rows in"),
        ReportRow(check=f"{kind} rows without an id", rows=listed.height - named.height, rule="dropped"),
        ReportRow(check=f"repeated {kind} rows", rows=named.height - unique.height, rule="dropped, but for the first"),
    ]


def _logged_ids(interactions: pl.DataFrame, known: pl.DataFrame, key: str, parameter: str) -> pl.DataFrame:
    """The distinct ids of the log, once at least one of them is found in the table that describes them."""
    logged, table = interactions.select(pl.col(key).unique()), f"raw_{key.removesuffix('_id')}s"
    same_type = logged.schema[key] == known.schema[key]
    if not same_type or logged.join(known, on=key, how="semi").is_empty():
        found = " and ".join(
            f"{ids[key].dtype} in {name} ({', '.join(map(repr, ids[key].sort().head(3)))}, …)"
            for name, ids in (("raw_interactions", logged), (table, known))
        )
        raise ValueError(
            f"No {key} of raw_interactions occurs in {table}: {found}. Change `{parameter}`, or let both catalog "
            "entries load the ids alike (zero-padded ids must be loaded as text in both)."
        )
    return logged
