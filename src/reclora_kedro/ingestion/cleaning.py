"""The canonical log from the raw one, with a count of every row that was dropped or changed.

The log is read in chunks of its own order, whose rows are divided into parts by time. A lazy table of at most
`engine.rows_per_part` rows, a table in memory and a log with starting histories are one chunk and one part, which stay
in memory; otherwise chunks and parts are written to files.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter, worded
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.errors import Column, Table
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import DropRule, ImpressionList, IngestionConfig, InteractionColumns
from reclora_kedro.ingestion.events import EVENT_KEY, MOMENT_KEY, comes_after_previous
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.ingestion.ids import canonical, listed, typed
from reclora_kedro.ingestion.plausible_times import believed_seconds, day_of, newest_plausible, outside, refuse_times
from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars

logger = logging.getLogger(__name__)

BLOCK = "ingestion.interactions"
ROWS_IN = "raw interactions"
GLANCE = 1_000  # rows that are looked at before the first pass
PRECISION = 16  # a part has at most a sixteenth more rows than wanted, where seconds have few rows


def clean_interactions(
    raw_interactions: Any,
    config: IngestionConfig,
    report: CleaningReport,
    engine: EngineConfig = LOCAL,
    forgotten: ForgottenUsers = NOBODY,
    table: str = "raw_interactions",  # its catalog entry
) -> pl.LazyFrame:
    """Clean the raw log and sort it by (timestamp, user_id), with about `engine.rows_per_part` rows in memory.

    Events of one user and second are in the order of the raw log.

    A raw row is dropped by the first rule that it breaks, so that dropped and kept rows add up to the raw ones, after
    lists are expanded and starting histories are added.

    A first pass over the chunks of a long log samples their times to divide it into parts. A second one drops faulty
    rows and writes the others by part; a third one sorts each part and drops repeated rows.

    Returns:
        The columns of the schema: user_id, item_id, rating (null: shown, not clicked), timestamp (seconds since the
        epoch), label (1 = liked; null in a starting history), and those that are declared. A log in parts is in files
        that are removed with it.

    Fault (ShardError, on a worker) is raised for a column that is missing or unreadable, for too many implausible times
    or ratings outside the scale, and where no row is left.
    """
    is_lazy, columns = isinstance(raw_interactions, pl.LazyFrame), config.interactions
    raw_log = raw_interactions if is_lazy else as_polars(raw_interactions, table).lazy()
    rows = raw_log.select(pl.len()).collect().item()
    in_memory = not is_lazy or columns.click_history is not None or rows <= engine.rows_per_part
    size = max(rows, 1) if in_memory else engine.rows_per_part
    chunks = [_Chunk(table, first, min(size, rows - first)) for first in range(0, max(rows, 1), size)]
    if in_memory:
        engine = engine.here()
        raw_log, folder, bounds, scratch = raw_log.collect().lazy(), None, np.array([]), None
    else:
        folder = scratch_folder(engine.scratch)
        scratch, bounds = Path(folder.name), _bounds_of_parts(raw_log, config, chunks, engine)
    sound, of_chunks = dict[int, list[pl.LazyFrame]](), list[_Cleaned]()
    clean = partial(_clean_chunk, raw_log, config, forgotten, bounds, scratch)
    for cleaned in map_shards(clean, chunks, engine, "cleaning"):
        report.add(cleaned.report)
        of_chunks.append(cleaned)
        for part, frame in cleaned.parts.items():
            sound.setdefault(part, []).append(frame)
    rows, times_outside = (sum(getattr(each, name) for each in of_chunks) for name in ("rows", "times_outside"))
    if times_outside > config.plausible_times.max_outside * rows:
        first = next(chunk for chunk, each in zip(chunks, of_chunks, strict=True) if each.times_outside)
        raw = first.read(raw_log, columns)
        refuse_times(raw, _read_seconds(raw, config), times_outside, rows, config)
    _require_present(config, report, table)
    _require_scale([rating for each in of_chunks for rating in each.extreme_ratings], rows, config, report, table)
    parts = list[pl.LazyFrame]()
    sort = partial(_sort_part, config, scratch)
    for frame, repeats in map_shards(sort, sorted(sound.items()), engine, "sorting"):
        parts.append(frame)
        report.add(repeats)
    log = pl.concat(parts) if parts else pl.LazyFrame(schema=columns.events.table)
    if config.plausible_times.last_day is None and (last := newest_plausible(log)) is not None:
        is_later = pl.col("timestamp") > last
        if later := log.select(is_later.sum()).collect(engine="streaming").item():
            report.record(f"timestamp long after {day_of(last)}, the last plausible day", later)
            found = f"{later:,} rows are dropped, because their times are long after {day_of(last)}, the last of others"
            parameter = Parameter("ingestion.plausible_times.last_day")
            logger.warning(worded(found, ": if they are right, set ", parameter, "."))
            log = log.filter(~is_later)
    if columns.click_history is not None:
        raw = chunks[0].read(raw_log, columns)
        log = _with_starting_histories(log.collect(), raw, config, forgotten, report).lazy()
    log = _close_log(log, config, report, table)
    if folder is None:
        return log.collect().lazy()
    finalize(log, folder.cleanup)
    return log


class _Chunk(NamedTuple):
    table: str
    first: int
    rows: int

    def read(
        self, raw_log: pl.LazyFrame, columns: InteractionColumns, report: CleaningReport | None = None
    ) -> RawColumns:
        """Read the rows, expand lists, and drop unwanted rows, which the report counts."""
        report = report or CleaningReport()
        raw = RawColumns(as_polars(raw_log.slice(self.first, self.rows), self.table), self.table, self.first)
        if columns.explode:
            report.record("rows of lists", raw.frame.height, "taken apart, a row for each of their elements")
            raw = raw.exploded(columns.explode, columns.explode_separator, f"{BLOCK}.explode")
        for name, rule in columns.drop.items():
            unwanted = _dropped(raw, name, rule)
            dropped = int(unwanted.sum())
            report.record(ROWS_IN, dropped, "rows in")
            report.record(f"{name} {rule}", dropped)
            raw = raw.where(~unwanted)
        return raw


def _dropped(raw: RawColumns, name: str, rule: DropRule) -> pl.Series:
    parameter = f"{BLOCK}.drop"
    dropped = raw.holds(name, rule.values, parameter)
    for prefix in rule.starts_with:
        dropped |= raw.texts(name, parameter).str.starts_with(prefix).fill_null(False)
    if rule.at_most is not None:
        dropped |= (raw.numbers(name, parameter) <= rule.at_most).fill_null(False)
    if rule.at_least is not None:
        dropped |= (raw.numbers(name, parameter) >= rule.at_least).fill_null(False)
    return dropped


class _Cleaned(NamedTuple):
    """A chunk's valid rows by part, its number of rows, and the report on it."""

    parts: dict[int, pl.LazyFrame]
    rows: int
    times_outside: int  # how many times are not believed
    extreme_ratings: list[float]  # the lowest and the highest one; none in a log without ratings
    report: CleaningReport


def _bounds_of_parts(
    raw_log: pl.LazyFrame, config: IngestionConfig, chunks: list[_Chunk], engine: EngineConfig
) -> np.ndarray:
    """Return the seconds that divide the log into parts of about `engine.rows_per_part` rows each."""
    columns = config.interactions
    head = chunks[0]._replace(rows=GLANCE).read(raw_log, columns)  # missing or unreadable columns are told at once
    _sound_rows(head, _read_seconds(head, config), config, CleaningReport())
    step = max(1, engine.rows_per_part // (PRECISION * len(chunks)))
    needed = {*columns.timestamps, *columns.explode, *columns.drop}
    sample = partial(_sample_times, raw_log.select(sorted(needed)), config, step)
    times = np.sort(np.concatenate(list(map_shards(sample, chunks, engine, "times"))))
    every = engine.rows_per_part // step
    return np.unique(times[every::every])


def _sample_times(times: pl.LazyFrame, config: IngestionConfig, step: int, chunk: _Chunk) -> np.ndarray:
    """Return every `step`-th of a chunk's plausible times, sorted."""
    seconds = _read_seconds(chunk.read(times, config.interactions), config)
    believed = seconds.filter(seconds.is_between(*believed_seconds(config.plausible_times)))
    return believed.sort().gather_every(step).to_numpy()


def _clean_chunk(
    raw_log: pl.LazyFrame,
    config: IngestionConfig,
    forgotten: ForgottenUsers,
    bounds: np.ndarray,
    scratch: Path | None,
    chunk: _Chunk,
) -> _Cleaned:
    """Return the valid rows of a chunk by part, in files if there is a scratch folder."""
    report, rating = CleaningReport(), config.interactions.rating
    raw = chunk.read(raw_log, config.interactions, report)
    seconds = _read_seconds(raw, config)
    sound = _sound_rows(raw, seconds, config, report, forgotten)
    times_outside = int(outside(seconds, config.plausible_times).sum())
    ratings = raw.numbers(rating, f"{BLOCK}.rating").drop_nulls().to_numpy() if rating else np.array([])
    extremes = [float(ratings.min()), float(ratings.max())] if len(ratings) else []
    parts = {0: sound.lazy()} if scratch is None else _filed_by_part(sound, bounds, scratch, chunk)
    return _Cleaned(parts, raw.frame.height, times_outside, extremes, report)


def _filed_by_part(sound: pl.DataFrame, bounds: np.ndarray, scratch: Path, chunk: _Chunk) -> dict[int, pl.LazyFrame]:
    number, parts = np.searchsorted(bounds, sound["timestamp"].to_numpy()), {}
    by_part = sound.with_columns(part=pl.Series(number)).partition_by("part", as_dict=True, include_key=False)
    for (part,), rows in by_part.items():
        file = scratch / f"{part:06}-{chunk.first}.arrow"
        rows.write_ipc(file)
        parts[part] = pl.scan_ipc(file)
    return parts


def _sort_part(
    config: IngestionConfig, scratch: Path | None, part: tuple[int, list[pl.LazyFrame]]
) -> tuple[pl.LazyFrame, CleaningReport]:
    """Return the labelled rows of a part in canonical order, one per event or impression, and the report."""
    (number, frames), report = part, CleaningReport()
    labelled = _with_labels(distinct_rows(pl.concat(frames).collect(), config, report), config)
    if scratch is None:
        return labelled.lazy(), report
    file = scratch / f"{number:06}.parquet"
    labelled.write_parquet(file, compression="lz4")
    for filed in scratch.glob(f"{number:06}-*.arrow"):
        filed.unlink()
    return pl.scan_parquet(file), report


def _read_seconds(raw: RawColumns, config: IngestionConfig) -> pl.Series:
    columns = config.interactions
    return raw.seconds(columns.timestamps, f"{BLOCK}.timestamp", columns.timestamp_format, f"{BLOCK}.timestamp_format")


def _sound_rows(
    raw: RawColumns,
    seconds: pl.Series,
    config: IngestionConfig,
    report: CleaningReport,
    forgotten: ForgottenUsers = NOBODY,
) -> pl.DataFrame:
    """Return the rows without a fault of their own, with the columns of the schema but labels."""
    log = _typed_log(raw, seconds, config.interactions)
    report.record(ROWS_IN, log.height, "rows in")
    columns = config.interactions
    named = [columns.user_id, *([] if columns.impressions else [columns.item_id])]
    if padded := sum(map(raw.padded_ids, named)):
        report.record("user or item ids in blanks", padded, "kept without the blanks")
    faults = {"missing user or item id": pl.col("user_id").is_null() | pl.col("item_id").is_null()}
    if config.interactions.rating:
        faults |= {
            "missing rating": pl.col("rating").is_null(),
            _outside_scale(config): ~pl.col("rating").is_between(config.rating_min, config.rating_max),
        }
    elif config.interactions.has_impressions:
        faults |= {
            "missing mark of a click": pl.col("rating").is_null(),
            "mark of a click neither 0 nor 1": ~pl.col("rating").is_in([0, 1]),
        }
    faults |= {f"{column.name} not {column.expected}": column.fault() for column in columns.events.declared}
    times, timestamp = config.plausible_times, pl.col("timestamp")
    first, last = believed_seconds(times)
    faults |= {
        "missing timestamp": timestamp.is_null(),
        "timestamp not positive": timestamp <= 0,
        f"timestamp before {times.first_day}": timestamp < first,
        f"timestamp after {times.last_day or 'tomorrow'}": timestamp > last,
    }
    if (ids := forgotten.among(log["user_id"])).len():
        faults = {"rows of users who were forgotten": pl.col("user_id").is_in(ids.implode()), **faults}
    log = log.with_columns(
        fault=pl.coalesce(pl.when(broken).then(pl.lit(n, pl.UInt8)) for n, broken in enumerate(faults.values()))
    )
    rows = dict(log["fault"].drop_nulls().value_counts().iter_rows())
    for number, check in enumerate(faults):
        report.record(check, rows.get(number, 0))
    sound = log.filter(pl.col("fault").is_null()).drop("fault")
    for column in columns.events.declared:
        report.record(f"missing {column.name}", sound[column.name].null_count(), "kept without it")
    return sound


def _typed_log(raw: RawColumns, seconds: pl.Series, columns: InteractionColumns) -> pl.DataFrame:
    """Return the columns of the schema but labels; impressions become rows rated 1 (clicked) or 0."""
    log, impressions = {"user_id": raw.ids(columns.user_id, f"{BLOCK}.user_id")}, columns.impressions
    if impressions is not None:
        log["item_id"] = raw.lists(columns.item_id, f"{BLOCK}.item_id", impressions.separator)
    else:
        log["item_id"] = raw.ids(columns.item_id, f"{BLOCK}.item_id")
    if columns.rating is not None:
        log["rating"] = raw.numbers(columns.rating, f"{BLOCK}.rating")
    elif columns.clicked is not None:
        log["rating"] = raw.marks(columns.clicked, f"{BLOCK}.clicked")
    else:
        log["rating"] = pl.repeat(1.0, raw.frame.height, eager=True)
    log["timestamp"] = seconds
    for column in columns.events.declared:
        read = raw.texts if column.is_coded else raw.numbers
        log[column.name] = read(column.source or column.name, f"{BLOCK}.columns.{column.name}")
    frame = pl.DataFrame(log)
    if impressions:
        frame = expand_impressions(frame, impressions)
        frame = frame.with_columns(typed(frame["item_id"], pl.String(), Column(columns.item_id, Table(raw.table))))
    return _without_unknown_ids(frame, columns)


def _without_unknown_ids(log: pl.DataFrame, columns: InteractionColumns) -> pl.DataFrame:
    """Replace ids that stand for unknown users or items by null."""
    for name, values in columns.unknown_ids.items():
        parameter = Parameter(f"{BLOCK}.unknown_ids.{name}")
        unknown = typed(listed(values, name, parameter), log.schema[name], parameter).drop_nulls()
        log = log.with_columns(pl.when(~pl.col(name).is_in(unknown.implode())).then(name))
    return log


def _outside_scale(config: IngestionConfig) -> str:
    return f"rating outside {config.rating_min:g} to {config.rating_max:g}"


def _require_present(config: IngestionConfig, report: CleaningReport, table: str) -> None:
    """Warn of rows without a time or rating; raise ValueError for more of either than a share of the log."""
    columns, rows = config.interactions, sum(row["rows"] for row in report.records() if row["check"] == ROWS_IN)
    for what, names in (("timestamp", columns.timestamps), ("rating", [columns.rating])):
        count = report.rows(f"missing {what}") + (report.rows("timestamp not positive") if what == "timestamp" else 0)
        found = f"has no {what} in {', '.join(map(repr, names))} in {count:,} of {rows:,} rows"
        if count > config.max_missing * rows:
            most = Parameter("ingestion.max_missing")
            remedy = "Correct the file or its configuration; to drop such rows, raise "
            raise Fault(Table(table), found, advice=(remedy, most, ", the maximum share of such rows"))
        if count:
            logger.warning(worded(Table(table), f" {found}, which are dropped."))


def _require_scale(
    extremes: list[float], rows: int, config: IngestionConfig, report: CleaningReport, table: str
) -> None:
    """Raise Fault for a log with too many ratings outside the scale, which most likely has another scale."""
    count = report.rows(_outside_scale(config))
    if count > config.max_ratings_outside * rows:
        names = ("rating_min", "rating_max", "label_threshold", "interactions.drop", "max_ratings_outside")
        lowest, highest, threshold, drop, most = (Parameter(f"ingestion.{name}") for name in names)
        scale = "Set ", lowest, ", ", highest, " and ", threshold, " to its scale, or name what is no rating in ", drop
        found = f"ranges from {min(extremes):g} to {max(extremes):g}, and {count:,} of {rows:,} rows have a "
        advice = *scale, "; to drop such rows, raise ", most
        raise Fault(
            Column(str(config.interactions.rating), Table(table)), found + _outside_scale(config), advice=advice
        )


def distinct_rows(log: pl.DataFrame, config: IngestionConfig, report: CleaningReport) -> pl.DataFrame:
    """Return one row per event or impression, in canonical order; a null rating marks an impression without a click.

    Rows of one user and second keep their order.
    """
    has_impressions = config.interactions.has_impressions
    kept = "highest_rating" if has_impressions else config.duplicates
    weight = config.interactions.events.weight  # of which the highest stays, among equal ratings
    by, none = [*EVENT_KEY, "rating", *weight, "row"], [False] * len(EVENT_KEY)
    descending = [*none, kept == "highest_rating", *(True for _ in weight), False]
    nulls_last = [*none, True, *(True for _ in weight), False]  # keys have none: polars sorts seven times as fast so
    ordered = log.with_row_index("row").sort(by, descending=descending, nulls_last=nulls_last)
    distinct = ordered.filter(comes_after_previous(EVENT_KEY)).sort(*MOMENT_KEY, "row").drop("row")
    survivor = f"the one with the {kept.replace('_', ' ')}" if config.interactions.rating else "one"
    survivor = "a click, if any" if has_impressions else survivor
    report.record("repeated (user, item, timestamp)", log.height - distinct.height, f"dropped, but for {survivor}")
    return distinct


def _with_labels(log: pl.DataFrame, config: IngestionConfig) -> pl.DataFrame:
    """Add labels; impressions without a click lose their rating, as they are no events."""
    is_liked, _ = liked(config)
    rating = pl.when(is_liked).then(1.0) if config.interactions.has_impressions else pl.col("rating")
    labelled = log.with_columns(label=is_liked.cast(pl.Int8), rating=rating)
    return labelled.select(*config.interactions.events.table)


def liked(config: IngestionConfig) -> tuple[pl.Expr, str]:
    """Return whether rows are likes, by rating and declared columns, and that in words; what weighs 0 is none."""
    if config.interactions.has_impressions:
        is_liked, told = pl.col("rating") == 1, "clicked"
    elif config.interactions.rating:
        is_liked, told = pl.col("rating") >= config.label_threshold, f"rating >= {config.label_threshold:g}"
    else:
        is_liked, told = pl.lit(True), "every row, as there are no ratings"
    schema = config.interactions.events
    weighing = [column.name for column in schema.declared if column.weighs]
    is_liked = pl.all_horizontal(is_liked, *(weight.fill_null(1) > 0 for weight in schema.weight))
    return is_liked, ", unless 0 in ".join([told, *weighing])


def _with_starting_histories(
    log: pl.DataFrame, raw: RawColumns, config: IngestionConfig, forgotten: ForgottenUsers, report: CleaningReport
) -> pl.DataFrame:
    """Add the clicks from before the log, in canonical order."""
    columns, history = config.interactions, config.interactions.click_history
    assert history is not None
    users, seconds = raw.ids(columns.user_id, f"{BLOCK}.user_id"), _read_seconds(raw, config)
    items = raw.lists(history.column, f"{BLOCK}.click_history.column", history.separator)
    clicks = pl.DataFrame({"user_id": users, "timestamp": seconds, "item_id": items})
    clicks = clicks.filter(pl.col("timestamp").is_between(*believed_seconds(config.plausible_times)))
    clicks = clicks.filter(~pl.col("user_id").is_in(forgotten.among(users).implode()))
    earlier = _without_unknown_ids(starting_histories(clicks, log.schema["item_id"]), columns)
    sound = earlier.filter(pl.all_horizontal(pl.col("user_id", "item_id").is_not_null()) & (pl.col("timestamp") > 0))
    report.record("events of starting histories", earlier.height, "rows in; events, but no samples")
    report.record("events of starting histories without id or time", earlier.height - sound.height)
    return pl.concat([log, columns.events.complete(sound)]).sort(MOMENT_KEY, maintain_order=True)


def _close_log(log: pl.LazyFrame, config: IngestionConfig, report: CleaningReport, table: str) -> pl.LazyFrame:
    rows_before = log.select(pl.len()).collect().item()
    log = k_core(log, config.k_core)
    time, label = pl.col("timestamp"), pl.col("label")
    summary = log.select(time.min(), pl.len(), label.sum(), last=time.max(), labels=label.count())
    first, rows, positives, last, labels = summary.collect(engine="streaming").row(0)
    rule = f"dropped; k = {config.k_core}" if config.k_core > 1 else "off"
    report.record("outside the k-core", rows_before - rows, rule)
    if not rows:
        raise _nothing_left(report, config.interactions, Table(table))
    _warn_of_one_id(log, rows, config, report)
    kept = "impressions" if config.interactions.has_impressions else "rows"
    report.record("interactions", rows, f"rows kept; from {day_of(first)} to {day_of(last)}")
    share = f"label 1: {liked(config)[1]}; {positives / max(labels, 1):.1%} of the {kept} kept"
    report.record("positives", positives, share)
    return log


def _warn_of_one_id(log: pl.LazyFrame, rows: int, config: IngestionConfig, report: CleaningReport) -> None:
    """Warn of a user or item with an implausible share of the log, such as all guests of a shop under one id."""
    for name in ("user_id", "item_id"):
        counts = log.group_by(name).len("rows").sort("rows", name, descending=[True, False]).head(1)
        value, count = counts.collect(engine="streaming").row(0)
        if count > config.max_share_of_one_id * rows:
            report.record(f"rows of {name} {value}", count, f"kept; more than {config.max_share_of_one_id:.0%} of all")
            found = f"{name} {value!r} has {count / rows:.0%} of the log. If it stands for many or for none, add it to "
            unknown, share = Parameter(f"{BLOCK}.unknown_ids.{name}"), Parameter("ingestion.max_share_of_one_id")
            logger.warning(worded(found, unknown, ", which drops its rows. Otherwise, raise ", share, "."))


def k_core(interactions: pl.LazyFrame, k: int) -> pl.LazyFrame:
    """Return the largest part of a log in which every user and item has at least k rows; all of it for k of 0 or 1.

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


def _nothing_left(report: CleaningReport, columns: InteractionColumns, table: Table) -> Fault:
    dropped = "; ".join(f"{row['check']}: {row['rows']:,}" for row in report.records() if row["rows"])
    named = ["plausible_times", *(["rating_min", "rating_max"] if columns.rating else [])]
    named += [f"interactions.{name}" for name in ("clicked", "impressions") if getattr(columns, name)]
    parameters = [part for name in named for part in (Parameter(f"ingestion.{name}"), ", ")]
    advice = "Check the table, ", *parameters[:-1], " and ", Parameter("ingestion.k_core")
    return Fault(table, f"has no interaction left after cleaning ({dropped})", advice=advice)


def expand_impressions(log: pl.DataFrame, marks: ImpressionList) -> pl.DataFrame:
    """Return one row per item of the lists in `item_id`, with rating 1 if clicked and 0 if not.

    An item without a mark has no rating; an empty list leaves a row without an item.

    Examples:
        >>> log = pl.DataFrame({"user_id": ["U1"], "item_id": [["N7-1", "N8-0"]], "timestamp": [60]})
        >>> expand_impressions(log, ImpressionList(separator=" ", clicked="-1", not_clicked="-0")).rows()
        [('U1', 'N7', 60, 1.0), ('U1', 'N8', 60, 0.0)]
    """
    item, rows = pl.col("item_id"), log.explode("item_id", empty_as_null=True)
    clicked, not_clicked = item.str.ends_with(marks.clicked), item.str.ends_with(marks.not_clicked)
    stripped = pl.when(clicked).then(item.str.strip_suffix(marks.clicked))
    item_id = stripped.when(not_clicked).then(item.str.strip_suffix(marks.not_clicked)).otherwise(item)
    return rows.with_columns(
        item_id=pl.when(item_id != "").then(item_id), rating=pl.when(clicked).then(1.0).when(not_clicked).then(0.0)
    )


def starting_histories(clicks: pl.DataFrame, item_type: pl.DataType) -> pl.DataFrame:
    """Return the clicks from before the log, from the list in each user's first row: rating 1, label null.

    As they have no dates, the last one gets the second before the user's first row, and each earlier one a second less.

    Examples:
        >>> clicks = pl.DataFrame({"user_id": [1, 1], "timestamp": [90, 60], "item_id": [["a", "b"], ["a"]]})
        >>> starting_histories(clicks, pl.String()).rows()
        [(1, 'a', 1.0, 59, None)]
    """
    items, seconds = pl.col("item_id"), pl.col("timestamp")
    events = (
        clicks.filter(pl.col("user_id").is_not_null() & (seconds > 0))
        .sort("timestamp", maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .filter(items.list.len() > 0)
        .with_columns(items.list.reverse(), steps_back=pl.int_ranges(1, items.list.len() + 1))
        .explode("item_id", "steps_back", empty_as_null=True)
        .select(
            "user_id",
            "item_id",
            rating=pl.lit(1.0),
            timestamp=seconds - pl.col("steps_back"),
            label=pl.lit(None, pl.Int8),
        )
    )
    return events.with_columns(canonical(events["item_id"], item_type, strict=False))
