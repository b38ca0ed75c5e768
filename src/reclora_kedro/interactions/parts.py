"""Cleaning of a log that is longer than memory: what `clean_interactions` does, part by part."""

import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple
from weakref import finalize

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import EngineConfig, map_parts
from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.interactions.cleaning import ReportRow, close_log, distinct_rows, read_seconds, sound_rows
from reclora_kedro.interactions.config import IngestionConfig
from reclora_kedro.interactions.plausible_times import believed_seconds, outside, require_plausible_times
from reclora_kedro.interactions.raw_tables import RawColumns

GLANCE = 1_000  # rows that are looked at before the first pass
PRECISION = 16  # a part has at most a sixteenth more rows than asked for, where seconds have few rows


class _Chunk(NamedTuple):
    """Rows of the raw log, in its own order."""

    first: int
    rows: int

    def read(self, raw_interactions: pl.LazyFrame) -> RawColumns:
        return RawColumns(raw_interactions.slice(self.first, self.rows).collect(), "raw_interactions", self.first)


class _Times(NamedTuple):
    """What a chunk tells of its times: a sample in order, and how many are not believed."""

    sample: np.ndarray
    outside: int


def clean_in_parts(
    raw_interactions: pl.LazyFrame, config: IngestionConfig, engine: EngineConfig
) -> tuple[pl.LazyFrame, list[ReportRow]]:
    """The canonical log and report of `clean_interactions`, with about `engine.rows_per_part` rows in memory at once.

    A first pass over chunks of the raw log samples their times, by which the log is divided into parts. A second one
    drops faulty rows and files the others by part, a third sorts each part and drops repeated rows. A log with starting
    histories cannot be divided so.

    Args:
        raw_interactions: the raw log.
        config: settings of the step, without a click history.
        engine: what the chunks and parts are shards for.

    Returns:
        The log, in files that are removed with it; and the report.

    Raises:
        ValueError: as `clean_interactions`. Row numbers are those of the whole log, counts those of a chunk.
        ShardError: the same, on a worker.
    """
    rows, size = raw_interactions.select(pl.len()).collect().item(), engine.rows_per_part
    chunks = [_Chunk(first, min(size, rows - first)) for first in range(0, rows, size)]
    head = _Chunk(0, GLANCE).read(raw_interactions)
    sound_rows(head, read_seconds(head, config), config)  # a column that is missing or unreadable is told at once
    step = max(1, size // (PRECISION * len(chunks)))
    sample = partial(_sample_times, raw_interactions, config, step)
    times = list(map_parts(sample, chunks, engine, "times"))
    _require_plausible_times(raw_interactions, config, chunks, times)
    bounds = np.unique(np.sort(np.concatenate([each.sample for each in times]))[size // step :: size // step])
    folder = scratch_folder(engine.scratch)
    scratch = Path(folder.name)
    clean = partial(_file_rows, raw_interactions, config, bounds, scratch)
    reports = list(map_parts(clean, chunks, engine, "cleaning"))
    parts = sorted(scratch.iterdir())
    reports += map_parts(partial(_sort_part, config), parts, engine, "sorting")
    for part in parts:
        shutil.rmtree(part)
    log, report = close_log(_stored_log(parts), _sum(reports), config)
    finalize(log, folder.cleanup)
    return log, report


def _sample_times(raw_interactions: pl.LazyFrame, config: IngestionConfig, step: int, chunk: _Chunk) -> _Times:
    """Every so many of a chunk's times in order, of those that are believed."""
    seconds = read_seconds(chunk.read(raw_interactions.select(config.interactions.timestamp)), config)
    believed = seconds.filter(seconds.is_between(*believed_seconds(config.plausible_times)))
    sample = believed.sort().gather_every(step).to_numpy()
    return _Times(sample, int(outside(seconds, config.plausible_times).sum()))


def _require_plausible_times(
    raw_interactions: pl.LazyFrame, config: IngestionConfig, chunks: list[_Chunk], times: list[_Times]
) -> None:
    """Refuse a log with too many times that are not believed, by the chunk that has the largest share of them."""
    if sum(each.outside for each in times) > config.plausible_times.max_outside * sum(chunk.rows for chunk in chunks):
        chunk, _ = max(zip(chunks, times, strict=True), key=lambda each: each[1].outside / each[0].rows)
        raw = chunk.read(raw_interactions)
        require_plausible_times(raw, read_seconds(raw, config), config)


def _file_rows(
    raw_interactions: pl.LazyFrame, config: IngestionConfig, bounds: np.ndarray, scratch: Path, chunk: _Chunk
) -> list[ReportRow]:
    """File a chunk's sound rows by the part that their time belongs to, and report on the others."""
    raw = chunk.read(raw_interactions)
    sound, report = sound_rows(raw, read_seconds(raw, config), config)
    number = np.searchsorted(bounds, sound["timestamp"].to_numpy())
    for (part,), rows in sound.with_columns(part=pl.Series(number)).partition_by("part", as_dict=True).items():
        folder = scratch / f"{part:06}"
        folder.mkdir(exist_ok=True)
        rows.drop("part").write_ipc(folder / f"{chunk.first}.arrow")
    return report


def _sort_part(config: IngestionConfig, part: Path) -> list[ReportRow]:
    """Sort a part of the log, and keep one row per event."""
    sound = pl.concat([pl.read_ipc(file, memory_map=False) for file in sorted(part.iterdir())])
    labelled, report = distinct_rows(sound, config)
    labelled.write_parquet(_file_of(part), compression="lz4")
    return report


def _file_of(part: Path) -> Path:
    return part.with_suffix(".parquet")


def _stored_log(parts: list[Path]) -> pl.LazyFrame:
    if parts:
        return pl.scan_parquet([_file_of(part) for part in parts])
    columns = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64, "label": pl.Int8}
    return pl.LazyFrame(schema=columns)


def _sum(reports: list[list[ReportRow]]) -> list[ReportRow]:
    """One report of those on parts of a log."""
    rows = Counter[tuple[str, str]]()
    for each in reports:
        rows.update({(row["check"], row["rule"]): row["rows"] for row in each})
    return [ReportRow(check=check, rows=count, rule=rule) for (check, rule), count in rows.items()]
