"""From raw tables to the canonical log, items and users, with every row that was dropped or changed accounted for."""

from typing import Any, TypedDict

import polars as pl

from reclora_kedro.interactions.config import (
    IngestionConfig,
    InteractionColumns,
    ItemColumns,
    ItemTextColumns,
    TextField,
    UserColumns,
)
from reclora_kedro.interactions.html import read_html_columns
from reclora_kedro.interactions.impressions import expand_impressions, starting_histories
from reclora_kedro.interactions.plausible_times import believed_seconds, day_of, require_plausible_times
from reclora_kedro.interactions.raw_tables import RawColumns, as_polars
from reclora_kedro.interactions.schema import EVENT_KEY, FREE_TEXT, comes_after_previous


class ReportRow(TypedDict):
    """One line of the ingestion report."""

    check: str
    rows: int
    rule: str


def clean_interactions(raw_interactions: Any, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical log, sorted by (timestamp, user_id, item_id), and what cleaning did to the raw one.

    A raw row is dropped by the first rule that it breaks, so the dropped rows and the kept ones add up to the raw ones,
    once lists of impressions are taken apart and starting histories are added.

    Returns:
        user_id, item_id, rating (null: shown, not clicked), timestamp (seconds since the epoch), label (1 = liked; null
        in a starting history); and the report.

    Raises:
        ValueError: a column is missing or unreadable, too many times are not plausible, or no row is left.

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
        ...     plausible_times={"first_day": "1990-01-01", "last_day": "2025-12-31", "max_outside": 0},
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
    raw = RawColumns(as_polars(raw_interactions, "raw_interactions"), "raw_interactions")
    seconds = read_seconds(raw, config)
    require_plausible_times(raw, seconds, config)
    sound, faults = sound_rows(raw, seconds, config)
    labelled, repeats = distinct_rows(sound, config)
    whole, additions = _with_starting_histories(labelled, raw, seconds, config)
    log, report = close_log(whole.lazy(), [*faults, *repeats, *additions], config)
    return log.collect(), report


def read_seconds(raw: RawColumns, config: IngestionConfig) -> pl.Series:
    """The times of the raw log, in seconds since the epoch.

    Raises:
        ValueError: the column is missing or unreadable.
    """
    block, columns = "ingestion.interactions", config.interactions
    return raw.seconds(columns.timestamp, f"{block}.timestamp", columns.timestamp_format, f"{block}.timestamp_format")


def sound_rows(raw: RawColumns, seconds: pl.Series, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    """Rows of the raw log without a fault of their own: user_id, item_id, rating, timestamp; and the report.

    Args:
        raw: the raw log, or a part of it.
        seconds: its times, see `read_seconds`.
        config: settings of the step.

    Raises:
        ValueError: a column is missing or unreadable.
    """
    log = _typed_log(raw, seconds, config.interactions)
    sound, faults = _drop_faulty(log, config)
    return sound, [ReportRow(check="raw interactions", rows=log.height, rule="rows in"), *faults]


def distinct_rows(sound: pl.DataFrame, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    """Rows with their labels in the canonical order, one per event or impression; and the report.

    Args:
        sound: all rows of some seconds, see `sound_rows`.
        config: settings of the step.
    """
    distinct, repeats = _drop_repeated(sound, config)
    return _with_labels(distinct, config), [repeats]


def close_log(
    log: pl.LazyFrame, report: list[ReportRow], config: IngestionConfig
) -> tuple[pl.LazyFrame, list[ReportRow]]:
    """The k-core of the labelled log, and the whole report.

    Raises:
        ValueError: no row is left.
    """
    columns, rows_before = config.interactions, log.select(pl.len()).collect().item()
    log = k_core(log, config.k_core)
    timestamp, label = pl.col("timestamp"), pl.col("label")
    first, last, rows, positives, labels = (
        log.select(timestamp.min(), timestamp.max().alias("last"), pl.len(), label.sum(), label.count().alias("labels"))
        .collect(engine="streaming")
        .row(0)
    )
    report = [
        *report,
        ReportRow(
            check="outside the k-core",
            rows=rows_before - rows,
            rule=f"dropped; k = {config.k_core}" if config.k_core > 1 else "off",
        ),
    ]
    if not rows:
        raise ValueError(_nothing_left(report, columns))
    kept = "impressions" if columns.has_impressions else "rows"
    share = f"label 1: {_liked(config)[1]}; {positives / max(labels, 1):.1%} of the {kept} kept"
    return log, [
        *report,
        ReportRow(check="interactions", rows=rows, rule=f"rows kept; from {day_of(first)} to {day_of(last)}"),
        ReportRow(check="positives", rows=positives, rule=share),
    ]


def k_core(interactions: pl.LazyFrame, k: int) -> pl.LazyFrame:
    """The largest part of a log in which every user and every item has at least k rows.

    Users and items are dropped in turns until nothing changes; k of 0 or 1 changes nothing.

    Examples:
        >>> log = pl.LazyFrame({"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 7, 8, 8]})
        >>> k_core(log, 2).collect().rows()
        [(1, 7), (1, 8), (2, 7), (2, 8)]
    """
    core, rows, rows_before = interactions, 0, -1
    while k > 1 and rows != rows_before:
        rows_before, frequent = rows, {}
        for name in ("user_id", "item_id"):
            counts = core.group_by(name).len().collect(engine="streaming")
            frequent[name], rows = counts.filter(pl.col("len") >= k)[name], int(counts["len"].sum())
        core = interactions.filter(pl.col(name).is_in(ids.implode()) for name, ids in frequent.items())
    return core


def describe_items(
    raw_items: Any, interactions: pl.DataFrame | pl.LazyFrame, columns: ItemColumns
) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical items: one row for every item of the log or of the raw table, sorted by item_id.

    Returns:
        item_id, title, then the text fields, several values of one field separated by commas (by spaces in
        `FREE_TEXT`); and the report.

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
    table, with_html = _read_html(
        as_polars(raw_items, "raw_items"), "item", [columns.title, *_columns_of(columns.fields)]
    )
    raw = RawColumns(table, "raw_items")
    title = raw.texts(columns.title, "ingestion.items.title")
    listed = pl.DataFrame(
        [
            raw.ids(columns.item_id, "ingestion.items.item_id").alias("item_id"),
            _articles_first(title, columns.trailing_articles).alias("title"),
            *_text_fields(raw, columns.fields, "ingestion.items.fields"),
        ]
    )
    known, report = _unique_rows(listed, "item_id", "item")
    logged = _logged_ids(interactions, known, "raw_items", "ingestion.items.item_id")
    items = known.join(logged, on="item_id", how="full", coalesce=True).sort("item_id")
    unlisted = items.height - known.height
    report += [
        with_html,
        ReportRow(check="items without a row", rows=unlisted, rule=f"kept as {columns.missing_title!r}"),
        ReportRow(
            check="items with an empty title",
            rows=items["title"].null_count() - unlisted,
            rule=f"kept as {columns.missing_title!r}",
        ),
        ReportRow(check="items", rows=items.height, rule=f"rows kept; {logged.height:,} occur in the log"),
    ]
    return items.with_columns(pl.col("title").fill_null(columns.missing_title)), report


def add_item_texts(
    items: pl.DataFrame, raw_item_texts: Any, columns: ItemTextColumns | None
) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The canonical items with the text fields of a second table, null for an item that it lacks; and the report.

    Args:
        items: the canonical items.
        raw_item_texts: the second table, polars or pandas; not looked at where ``columns`` is None.
        columns: names of its columns, or None where there is no such table.

    Raises:
        ValueError: a column is missing or unreadable, or the ids don't meet those of the items.

    Examples:
        >>> items = pl.DataFrame({"item_id": [1, 2], "title": ["Heat", "Net"]})
        >>> columns = ItemTextColumns(item_id="id", fields=[TextField(name="description", column="plot")])
        >>> add_item_texts(items, pl.DataFrame({"id": [2, 3], "plot": ["A hacker.", "?"]}), columns)[0].rows()
        [(1, 'Heat', None), (2, 'Net', 'A hacker.')]
    """
    if columns is None:
        return items, []
    if raw_item_texts is None:
        raise ValueError(
            "raw_item_texts holds no table, but `ingestion.item_texts` names its columns. "
            "Set `ingestion.item_texts` to null, or point the catalog entry raw_item_texts at the table."
        )
    table, with_html = _read_html(as_polars(raw_item_texts, "raw_item_texts"), "item text", _columns_of(columns.fields))
    raw = RawColumns(table, "raw_item_texts")
    listed = pl.DataFrame(
        [
            raw.ids(columns.item_id, "ingestion.item_texts.item_id").alias("item_id"),
            *_text_fields(raw, columns.fields, "ingestion.item_texts.fields"),
        ]
    )
    known, report = _unique_rows(listed, "item_id", "item text")
    _logged_ids(items, known, "raw_item_texts", "ingestion.item_texts.item_id")
    missing = items.join(known, on="item_id", how="anti").height
    report += [
        with_html,
        ReportRow(check="items without item texts", rows=missing, rule="kept with these fields empty"),
    ]
    return items.join(known, on="item_id", how="left", maintain_order="left"), report


def describe_users(
    raw_users: Any, interactions: pl.DataFrame | pl.LazyFrame, columns: UserColumns | None
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
        users = _distinct(interactions, "user_id").sort("user_id")
        return users, [ReportRow(check="users", rows=users.height, rule="rows kept; no user table, ids only")]
    if raw_users is None:
        raise ValueError(
            "raw_users holds no table, but `ingestion.users` names its columns. "
            "Set `ingestion.users` to null, or point the catalog entry raw_users at the user table."
        )
    table, with_html = _read_html(as_polars(raw_users, "raw_users"), "user", _columns_of(columns.fields))
    raw = RawColumns(table, "raw_users")
    listed = pl.DataFrame(
        [
            raw.ids(columns.user_id, "ingestion.users.user_id").alias("user_id"),
            *_text_fields(raw, columns.fields, "ingestion.users.fields"),
        ]
    )
    known, report = _unique_rows(listed, "user_id", "user")
    logged = _logged_ids(interactions, known, "raw_users", "ingestion.users.user_id")
    silent = known.join(logged, on="user_id", how="anti").height
    report += [
        with_html,
        ReportRow(check="users without an interaction", rows=silent, rule="dropped"),
        ReportRow(
            check="users without a profile", rows=logged.height - (known.height - silent), rule="kept with empty fields"
        ),
        ReportRow(check="users", rows=logged.height, rule="rows kept"),
    ]
    return logged.join(known, on="user_id", how="left").sort("user_id"), report


def _typed_log(raw: RawColumns, seconds: pl.Series, columns: InteractionColumns) -> pl.DataFrame:
    """user_id, item_id, rating and timestamp; of impressions, one row each, rated 1 where clicked and 0 where not."""
    block, impressions = "ingestion.interactions", columns.impressions
    log = pl.DataFrame(
        {
            "user_id": raw.ids(columns.user_id, f"{block}.user_id"),
            "item_id": raw.lists(columns.item_id, f"{block}.item_id", impressions.separator)
            if impressions
            else raw.ids(columns.item_id, f"{block}.item_id"),
            "rating": _ratings(raw, columns, block),
            "timestamp": seconds,
        }
    )
    return expand_impressions(log, impressions) if impressions else log


def _ratings(raw: RawColumns, columns: InteractionColumns, block: str) -> pl.Series:
    for kind, column in (("rating", columns.rating), ("clicked", columns.clicked)):
        if column is not None:
            return raw.numbers(column, f"{block}.{kind}")
    return pl.repeat(1.0, raw.frame.height, eager=True)


def _drop_faulty(log: pl.DataFrame, config: IngestionConfig) -> tuple[pl.DataFrame, list[ReportRow]]:
    low, high = config.rating_min, config.rating_max
    faults = {"missing user or item id": pl.col("user_id").is_null() | pl.col("item_id").is_null()}
    if config.interactions.rating:
        faults |= {
            "missing rating": pl.col("rating").is_null(),
            f"rating outside {low:g} to {high:g}": ~pl.col("rating").is_between(low, high),
        }
    elif config.interactions.has_impressions:
        faults |= {
            "missing mark of a click": pl.col("rating").is_null(),
            "mark of a click neither 0 nor 1": ~pl.col("rating").is_in([0, 1]),
        }
    times, timestamp = config.plausible_times, pl.col("timestamp")
    first, last = believed_seconds(times)
    faults |= {
        "missing timestamp": timestamp.is_null(),
        "timestamp not positive": timestamp <= 0,
        f"timestamp before {times.first_day}": timestamp < first,
        f"timestamp after {times.last_day or 'a year from now'}": timestamp > last,
    }
    first_fault = pl.coalesce(
        pl.when(broken).then(pl.lit(number, pl.UInt8)) for number, broken in enumerate(faults.values())
    )
    log = log.with_columns(fault=first_fault)
    rows = dict(log["fault"].drop_nulls().value_counts().iter_rows())
    report = [ReportRow(check=check, rows=rows.get(number, 0), rule="dropped") for number, check in enumerate(faults)]
    return log.filter(pl.col("fault").is_null()).drop("fault"), report


def _drop_repeated(log: pl.DataFrame, config: IngestionConfig) -> tuple[pl.DataFrame, ReportRow]:
    """One row an event or impression, in the canonical order."""
    kept = "highest_rating" if config.interactions.has_impressions else config.duplicates
    ordered = log.sort(*EVENT_KEY, "rating", descending=[False, False, False, kept == "highest_rating"])
    distinct = ordered.filter(comes_after_previous(EVENT_KEY))
    survivor = (
        "a click, if any" if config.interactions.has_impressions else f"the one with the {kept.replace('_', ' ')}"
    )
    return distinct, ReportRow(
        check="repeated (user, item, timestamp)",
        rows=log.height - distinct.height,
        rule=f"dropped, but for {survivor}",
    )


def _with_labels(log: pl.DataFrame, config: IngestionConfig) -> pl.DataFrame:
    """The log with its labels; what was not clicked loses its rating, as it is no event."""
    liked, _ = _liked(config)
    rating = pl.when(liked).then(1.0) if config.interactions.has_impressions else pl.col("rating")
    return log.with_columns(label=liked.cast(pl.Int8), rating=rating)


def _liked(config: IngestionConfig) -> tuple[pl.Expr, str]:
    """Which rows have label 1, and in words."""
    if config.interactions.has_impressions:
        return pl.col("rating") == 1, "clicked"
    if config.interactions.rating:
        return pl.col("rating") >= config.label_threshold, f"rating >= {config.label_threshold:g}"
    return pl.lit(True), "every row, as there are no ratings"


def _with_starting_histories(
    log: pl.DataFrame, raw: RawColumns, seconds: pl.Series, config: IngestionConfig
) -> tuple[pl.DataFrame, list[ReportRow]]:
    """The log and what its users clicked before it begins, in the canonical order."""
    columns, block = config.interactions, "ingestion.interactions"
    history = columns.click_history
    if history is None:
        return log, []
    clicks = pl.DataFrame(
        {
            "user_id": raw.ids(columns.user_id, f"{block}.user_id"),
            "timestamp": seconds,
            "item_id": raw.lists(history.column, f"{block}.click_history.column", history.separator),
        }
    ).filter(pl.col("timestamp").is_between(*believed_seconds(config.plausible_times)))
    earlier = starting_histories(clicks, log.schema["item_id"])
    sound = earlier.filter(pl.col("item_id").is_not_null() & (pl.col("timestamp") > 0))
    return pl.concat([log, sound.select(log.columns)]).sort(EVENT_KEY), [
        ReportRow(check="events of starting histories", rows=earlier.height, rule="rows in; events, but no samples"),
        ReportRow(
            check="events of starting histories without id or time", rows=earlier.height - sound.height, rule="dropped"
        ),
    ]


def _nothing_left(report: list[ReportRow], columns: InteractionColumns) -> str:
    dropped = "; ".join(f"{row['check']}: {row['rows']:,}" for row in report if row["rows"])
    named = ["plausible_times", *(["rating_min", "rating_max"] if columns.rating else [])]
    named += [f"interactions.{name}" for name in ("clicked", "impressions") if getattr(columns, name)]
    parameters = " and ".join(f"`ingestion.{name}`" for name in [*named, "k_core"])
    return (
        f"No interaction is left after cleaning ({dropped}). Check the catalog entry "
        f"raw_interactions and the parameters {parameters}."
    )


def _read_html(raw_table: pl.DataFrame, kind: str, columns: list[str | None]) -> tuple[pl.DataFrame, ReportRow]:
    table, rows = read_html_columns(raw_table, columns)
    return table, ReportRow(check=f"{kind} rows with HTML", rows=rows, rule="tags removed, entities made characters")


def _columns_of(fields: list[TextField]) -> list[str | None]:
    return [field.column for field in fields]


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
        if field.separator is None and not raw.holds_lists(field.column):
            text = raw.texts(field.column, parameter).replace(field.values)
        else:
            value = pl.element().replace(field.values)
            values = raw.lists(field.column, parameter, field.separator)
            text = values.list.eval(value.filter(value != "")).list.join(" " if field.name == FREE_TEXT else ", ")
    return text.set(text == "", None)


def _unique_rows(listed: pl.DataFrame, key: str, kind: str) -> tuple[pl.DataFrame, list[ReportRow]]:
    named = listed.drop_nulls(key)
    unique = named.unique(key, keep="first", maintain_order=True)
    return unique, [
        ReportRow(check=f"raw {kind}s", rows=listed.height, rule="rows in"),
        ReportRow(check=f"{kind} rows without an id", rows=listed.height - named.height, rule="dropped"),
        ReportRow(check=f"repeated {kind} rows", rows=named.height - unique.height, rule="dropped, but for the first"),
    ]


def _distinct(log: pl.DataFrame | pl.LazyFrame, key: str) -> pl.DataFrame:
    return log.lazy().select(pl.col(key).unique()).collect(engine="streaming")


def _logged_ids(log: pl.DataFrame | pl.LazyFrame, known: pl.DataFrame, table: str, parameter: str) -> pl.DataFrame:
    """The distinct ids of the log, once at least one of them is found in the table that describes them."""
    key = known.columns[0]
    logged = _distinct(log, key)
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
