"""From the raw log to the canonical one, with every row that was dropped or changed accounted for.

The log is read in chunks of its own order, which are divided into parts by time. A lazy table of at most
`engine.rows_per_part` rows, a table that is in memory already and a log with starting histories are one chunk and one
part, which stay in memory; more of them pass through files.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.interactions.cleaning_report import CleaningReport
from reclora_kedro.interactions.config import IngestionConfig, InteractionColumns
from reclora_kedro.interactions.impressions import expand_impressions, starting_histories
from reclora_kedro.interactions.plausible_times import believed_seconds, day_of, outside, refuse_times
from reclora_kedro.interactions.raw_tables import RawColumns, as_polars
from reclora_kedro.interactions.schema import EVENT_KEY, comes_after_previous

BLOCK = "ingestion.interactions"
GLANCE = 1_000  # rows that are looked at before the first pass
PRECISION = 16  # a part has at most a sixteenth more rows than wanted, where seconds have few rows
NO_ROWS = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64, "label": pl.Int8}


def clean_interactions(
    raw_interactions: Any, config: IngestionConfig, report: CleaningReport, engine: EngineConfig = LOCAL
) -> pl.LazyFrame:
    """The canonical log, sorted by (timestamp, user_id, item_id), with about `engine.rows_per_part` rows in memory.

    A raw row is dropped by the first rule that it breaks, so the dropped rows and the kept ones add up to the raw ones,
    once lists of impressions are taken apart and starting histories are added.

    A pass over the chunks of a long log samples their times, by which it is divided into parts. The next one drops
    faulty rows and files the others by part; the last one sorts each part and drops repeated rows.

    Args:
        raw_interactions: a polars frame, eager or lazy, or a pandas one.
        config: settings of the step.
        report: takes the account of the cleaning.
        engine: what the chunks and parts are shards for.

    Returns:
        user_id, item_id, rating (null: shown, not clicked), timestamp (seconds since the epoch), label (1 = liked; null
        in a starting history). A log in parts is in files that are removed with it.

    Raises:
        ValueError: a column is missing or unreadable, too many times are not plausible, or no row is left.
        ShardError: the same, on a worker.

    Examples:
        >>> config = IngestionConfig(
        ...     interactions={
        ...         "user_id": "user", "item_id": "item", "rating": "stars",
        ...         "timestamp": "day", "timestamp_format": "%Y-%m-%d",
        ...     },
        ...     items={"item_id": "item", "title": "name", "missing_title": "?", "trailing_articles": [], "fields": []},
        ...     plausible_times={"first_day": "1990-01-01", "last_day": "2025-12-31", "max_outside": 0},
        ...     users=None, rating_min=1, rating_max=5, label_threshold=4, duplicates="highest_rating", k_core=0,
        ... )
        >>> raw = pl.DataFrame({"user": [1, 1], "item": ["a", "b"], "stars": [5, 9], "day": ["2020-01-02"] * 2})
        >>> report = CleaningReport()
        >>> clean_interactions(raw, config, report).collect().rows()
        [(1, 'a', 5.0, 1577923200, 1)]
        >>> [(row["check"], row["rows"]) for row in report.records() if row["rule"] == "dropped" and row["rows"]]
        [('rating outside 1 to 5', 1)]
    """
    is_lazy, columns = isinstance(raw_interactions, pl.LazyFrame), config.interactions
    raw_log = raw_interactions if is_lazy else as_polars(raw_interactions, "raw_interactions").lazy()
    rows = raw_log.select(pl.len()).collect().item()
    in_memory = not is_lazy or columns.click_history is not None or rows <= engine.rows_per_part
    size = max(rows, 1) if in_memory else engine.rows_per_part
    chunks = [_Chunk(first, min(size, rows - first)) for first in range(0, max(rows, 1), size)]
    if in_memory:
        raw_log, folder, bounds, scratch = raw_log.collect().lazy(), None, np.array([]), None
    else:
        folder = scratch_folder(engine.scratch)
        scratch, bounds = Path(folder.name), _bounds_of_parts(raw_log, config, chunks, engine)
    sound, times_outside = dict[int, list[pl.LazyFrame]](), list[int]()
    for cleaned in map_shards(partial(_clean_chunk, raw_log, config, bounds, scratch), chunks, engine, "cleaning"):
        report.add(cleaned.report)
        times_outside.append(cleaned.times_outside)
        for part, frame in cleaned.parts.items():
            sound.setdefault(part, []).append(frame)
    if sum(times_outside) > config.plausible_times.max_outside * rows:
        chunk = chunks[int(np.argmax(np.array(times_outside) > 0))]
        raw = chunk.read(raw_log)
        refuse_times(raw, _read_seconds(raw, config), sum(times_outside), rows, config)
    parts = list[pl.LazyFrame]()
    sort = partial(_sort_part, config, scratch)
    for frame, repeats in map_shards(sort, sorted(sound.items()), engine, "sorting"):
        parts.append(frame)
        report.add(repeats)
    log = pl.concat(parts) if parts else pl.LazyFrame(schema=NO_ROWS)
    if columns.click_history is not None:
        log = _with_starting_histories(log.collect(), chunks[0].read(raw_log), config, report).lazy()
    log = _close_log(log, config, report)
    if folder is None:
        return log.collect().lazy()
    finalize(log, folder.cleanup)
    return log


class _Chunk(NamedTuple):
    first: int
    rows: int

    def read(self, raw_log: pl.LazyFrame) -> RawColumns:
        return RawColumns(raw_log.slice(self.first, self.rows).collect(), "raw_interactions", self.first)


class _Cleaned(NamedTuple):
    """A chunk's sound rows by part, how many of its times are not believed, and the report."""

    parts: dict[int, pl.LazyFrame]
    times_outside: int
    report: CleaningReport


def _bounds_of_parts(
    raw_log: pl.LazyFrame, config: IngestionConfig, chunks: list[_Chunk], engine: EngineConfig
) -> np.ndarray:
    """Seconds that divide the log into parts of about `engine.rows_per_part` rows each."""
    head = _Chunk(0, GLANCE).read(raw_log)  # a column that is missing or unreadable is told at once
    _sound_rows(head, _read_seconds(head, config), config, CleaningReport())
    step = max(1, engine.rows_per_part // (PRECISION * len(chunks)))
    sample = partial(_sample_times, raw_log.select(config.interactions.timestamp), config, step)
    times = np.sort(np.concatenate(list(map_shards(sample, chunks, engine, "times"))))
    every = engine.rows_per_part // step
    return np.unique(times[every::every])


def _sample_times(times: pl.LazyFrame, config: IngestionConfig, step: int, chunk: _Chunk) -> np.ndarray:
    """Every `step`-th of a chunk's believed times, in order."""
    seconds = _read_seconds(chunk.read(times), config)
    believed = seconds.filter(seconds.is_between(*believed_seconds(config.plausible_times)))
    return believed.sort().gather_every(step).to_numpy()


def _clean_chunk(
    raw_log: pl.LazyFrame, config: IngestionConfig, bounds: np.ndarray, scratch: Path | None, chunk: _Chunk
) -> _Cleaned:
    """The sound rows of a chunk by the part that their time belongs to; in files, if there is a scratch folder."""
    raw, report = chunk.read(raw_log), CleaningReport()
    seconds = _read_seconds(raw, config)
    sound = _sound_rows(raw, seconds, config, report)
    times_outside = int(outside(seconds, config.plausible_times).sum())
    if scratch is None:
        return _Cleaned({0: sound.lazy()}, times_outside, report)
    number, parts = np.searchsorted(bounds, sound["timestamp"].to_numpy()), {}
    by_part = sound.with_columns(part=pl.Series(number)).partition_by("part", as_dict=True, include_key=False)
    for (part,), rows in by_part.items():
        file = scratch / f"{part:06}-{chunk.first}.arrow"
        rows.write_ipc(file)
        parts[part] = pl.scan_ipc(file)
    return _Cleaned(parts, times_outside, report)


def _sort_part(
    config: IngestionConfig, scratch: Path | None, part: tuple[int, list[pl.LazyFrame]]
) -> tuple[pl.LazyFrame, CleaningReport]:
    """The labelled rows of a part in the canonical order, one per event or impression; and the report."""
    (number, frames), report = part, CleaningReport()
    labelled = _with_labels(_distinct_rows(pl.concat(frames).collect(), config, report), config)
    if scratch is None:
        return labelled.lazy(), report
    file = scratch / f"{number:06}.parquet"
    labelled.write_parquet(file, compression="lz4")
    for filed in scratch.glob(f"{number:06}-*.arrow"):
        filed.unlink()
    return pl.scan_parquet(file), report


def _read_seconds(raw: RawColumns, config: IngestionConfig) -> pl.Series:
    columns = config.interactions
    return raw.seconds(columns.timestamp, f"{BLOCK}.timestamp", columns.timestamp_format, f"{BLOCK}.timestamp_format")


def _sound_rows(raw: RawColumns, seconds: pl.Series, config: IngestionConfig, report: CleaningReport) -> pl.DataFrame:
    """Rows of the raw log without a fault of their own: user_id, item_id, rating, timestamp."""
    log = _typed_log(raw, seconds, config.interactions)
    report.record("raw interactions", log.height, "rows in")
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
    log = log.with_columns(
        fault=pl.coalesce(pl.when(broken).then(pl.lit(n, pl.UInt8)) for n, broken in enumerate(faults.values()))
    )
    rows = dict(log["fault"].drop_nulls().value_counts().iter_rows())
    for number, check in enumerate(faults):
        report.record(check, rows.get(number, 0))
    return log.filter(pl.col("fault").is_null()).drop("fault")


def _typed_log(raw: RawColumns, seconds: pl.Series, columns: InteractionColumns) -> pl.DataFrame:
    """user_id, item_id, rating and timestamp; of impressions, one row each, rated 1 where clicked and 0 where not."""
    log, impressions = {"user_id": raw.ids(columns.user_id, f"{BLOCK}.user_id")}, columns.impressions
    if impressions is not None:
        log["item_id"] = raw.lists(columns.item_id, f"{BLOCK}.item_id", impressions.separator)
    else:
        log["item_id"] = raw.ids(columns.item_id, f"{BLOCK}.item_id")
    log["rating"] = pl.repeat(1.0, raw.frame.height, eager=True)
    for kind, column in (("rating", columns.rating), ("clicked", columns.clicked)):
        if column is not None:
            log["rating"] = raw.numbers(column, f"{BLOCK}.{kind}")
    frame = pl.DataFrame(log | {"timestamp": seconds})
    return expand_impressions(frame, impressions) if impressions else frame


def _distinct_rows(log: pl.DataFrame, config: IngestionConfig, report: CleaningReport) -> pl.DataFrame:
    """One row per event or impression, in the canonical order."""
    has_impressions = config.interactions.has_impressions
    kept = "highest_rating" if has_impressions else config.duplicates
    ordered = log.sort(*EVENT_KEY, "rating", descending=[False, False, False, kept == "highest_rating"])
    distinct = ordered.filter(comes_after_previous(EVENT_KEY))
    survivor = "a click, if any" if has_impressions else f"the one with the {kept.replace('_', ' ')}"
    report.record("repeated (user, item, timestamp)", log.height - distinct.height, f"dropped, but for {survivor}")
    return distinct


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
    log: pl.DataFrame, raw: RawColumns, config: IngestionConfig, report: CleaningReport
) -> pl.DataFrame:
    """The log and what its users clicked before it begins, in the canonical order."""
    columns, history = config.interactions, config.interactions.click_history
    assert history is not None
    users, seconds = raw.ids(columns.user_id, f"{BLOCK}.user_id"), _read_seconds(raw, config)
    items = raw.lists(history.column, f"{BLOCK}.click_history.column", history.separator)
    clicks = pl.DataFrame({"user_id": users, "timestamp": seconds, "item_id": items})
    clicks = clicks.filter(pl.col("timestamp").is_between(*believed_seconds(config.plausible_times)))
    earlier = starting_histories(clicks, log.schema["item_id"])
    sound = earlier.filter(pl.col("item_id").is_not_null() & (pl.col("timestamp") > 0))
    report.record("events of starting histories", earlier.height, "rows in; events, but no samples")
    report.record("events of starting histories without id or time", earlier.height - sound.height)
    return pl.concat([log, sound.select(log.columns)]).sort(EVENT_KEY)


def _close_log(log: pl.LazyFrame, config: IngestionConfig, report: CleaningReport) -> pl.LazyFrame:
    """The k-core of the labelled log."""
    rows_before = log.select(pl.len()).collect().item()
    log = k_core(log, config.k_core)
    time, label = pl.col("timestamp"), pl.col("label")
    summary = log.select(time.min(), pl.len(), label.sum(), last=time.max(), labels=label.count())
    first, rows, positives, last, labels = summary.collect(engine="streaming").row(0)
    rule = f"dropped; k = {config.k_core}" if config.k_core > 1 else "off"
    report.record("outside the k-core", rows_before - rows, rule)
    if not rows:
        raise ValueError(_nothing_left(report, config.interactions))
    kept = "impressions" if config.interactions.has_impressions else "rows"
    report.record("interactions", rows, f"rows kept; from {day_of(first)} to {day_of(last)}")
    share = f"label 1: {_liked(config)[1]}; {positives / max(labels, 1):.1%} of the {kept} kept"
    report.record("positives", positives, share)
    return log


def k_core(interactions: pl.LazyFrame, k: int) -> pl.LazyFrame:
    """The largest part of a log in which every user and every item has at least k rows; all of it for k of 0 or 1.

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


def _nothing_left(report: CleaningReport, columns: InteractionColumns) -> str:
    dropped = "; ".join(f"{row['check']}: {row['rows']:,}" for row in report.records() if row["rows"])
    named = ["plausible_times", *(["rating_min", "rating_max"] if columns.rating else [])]
    named += [f"interactions.{name}" for name in ("clicked", "impressions") if getattr(columns, name)]
    parameters = " and ".join(f"`ingestion.{name}`" for name in [*named, "k_core"])
    return (
        f"No interaction is left after cleaning ({dropped}). Check the catalog entry "
        f"raw_interactions and the parameters {parameters}."
    )
