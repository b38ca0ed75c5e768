"""Plausible times of a log, and the refusal of a log with too many implausible ones."""

from datetime import UTC, date, datetime, timedelta
from typing import NoReturn

import polars as pl

from kedro_provenance.errors import Fault, Parameter, Phrase
from reclora_kedro.errors import Column, Table
from reclora_kedro.ingestion.config import IngestionConfig, PlausibleTimes
from reclora_kedro.ingestion.raw_tables import UNIX_UNITS, RawColumns

EPOCH, SECONDS_PER_DAY = date(1970, 1, 1), 86_400


def believed_seconds(times: PlausibleTimes) -> tuple[int, int]:
    """Return the first and the last plausible second since the epoch.

    Examples:
        >>> believed_seconds(PlausibleTimes(first_day="1970-01-01", last_day="1970-01-02", max_outside=0))
        (0, 172799)
    """
    last_day = times.last_day or datetime.now(UTC).date() + timedelta(days=1)
    return (times.first_day - EPOCH).days * SECONDS_PER_DAY, ((last_day - EPOCH).days + 1) * SECONDS_PER_DAY - 1


def day_of(second: int) -> date:
    return datetime.fromtimestamp(second, UTC).date()


def refuse_times(
    raw: RawColumns, seconds: pl.Series, times_outside: int, rows: int, config: IngestionConfig
) -> NoReturn:
    """Raise Fault for a log with too many implausible times, naming a format that fits them, if any."""
    first, last = believed_seconds(config.plausible_times)
    unfit = outside(seconds, config.plausible_times).arg_true()
    times, stated = config.interactions.timestamps, config.interactions.timestamp_format
    column = raw.times(times, "ingestion.interactions.timestamp")
    fitting = _fitting_unit(column.gather(unfit), first, last) if stated in UNIX_UNITS else None
    time_format = Parameter("ingestion.interactions.timestamp_format")
    plausible = Parameter("ingestion.plausible_times")
    advice: Phrase = "Correct the file or ", time_format, "; if the times are right, change ", plausible
    if fitting:
        units = f"They look like {fitting.removeprefix('unix_')}, but were read as {stated.removeprefix('unix_')}: set "
        advice = units, time_format, f" to {fitting}"
    found = (
        f"has {times_outside:,} of {rows:,} times outside {day_of(first)} to {day_of(last)}, the first is "
        f"{column[unfit[0]]!r} in row {raw.row(unfit[0]):,}"
    )
    raise Fault(Column(column.name, Table(raw.table)), found, advice=advice)


def outside(seconds: pl.Series, times: PlausibleTimes) -> pl.Series:
    """Return which seconds are implausible; those that are not positive are no dates, and not checked.

    Examples:
        >>> times = PlausibleTimes(first_day="1970-01-02", last_day="1970-01-02", max_outside=0)
        >>> outside(pl.Series([-1, 86_399, 86_400, None]), times).to_list()
        [False, True, False, None]
    """
    return (seconds > 0) & ~seconds.is_between(*believed_seconds(times))


def newest_plausible(log: pl.LazyFrame) -> int | None:
    """Return the last second of a log without the few rows that come too long after all others; None without rows.

    At most a thousandth of the rows, they come after a gap of more than a day and of more than the log's whole length
    until then, as the rows of a machine with a wrong clock do in a log that ended long ago.

    Examples:
        >>> day = 86_400
        >>> newest_plausible(pl.LazyFrame({"timestamp": [*range(day, 2 * day, 40), 9 * day]}))
        172760
    """
    rows, first = log.select(pl.len(), pl.col("timestamp").min()).collect(engine="streaming").row(0)
    if first is None:
        return None
    latest = log.select(pl.col("timestamp").top_k(rows // 1000 + 1)).collect().to_series().sort()
    gap, length = latest.diff().shift(-1), latest - first
    ends = latest.filter((gap > SECONDS_PER_DAY) & (gap > length) & (length > 0))
    return int(latest[-1] if ends.is_empty() else ends[0])


def _fitting_unit(numbers: pl.Series, first: int, last: int) -> str | None:
    """Return the format in which most of these numbers are plausible times."""
    if not numbers.dtype.is_numeric():
        return None
    ticks = numbers.cast(pl.Int64, strict=False)
    believed = {name: (ticks // per_second).is_between(first, last).sum() for name, per_second in UNIX_UNITS.items()}
    return next((name for name, count in believed.items() if count > len(ticks) / 2), None)
