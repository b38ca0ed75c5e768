"""Parts of a log: what comes before the events of each, and its samples and events.

The interactions are in the order of time. A first pass counts each user's events per part, which gives the positions of
the events of every part; a second one makes each part's samples and gathers its events.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.distributed.engine import EngineConfig, map_shards
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.sequences import Sequences, with_indices
from reclora_kedro.history.splits import split_of, uncut
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.events import EVENT_KEY, MOMENT_KEY, EventSchema

SAMPLE_COLUMNS = ("user_index", "item_index", "label", "timestamp", "event", "history_end")
NO_SAMPLES = "no samples; events stay in histories"


class Growth(NamedTuple):
    """What a grown log keeps of an earlier one, and how later samples are split."""

    before: Sequences  # of the earlier log, whose ratings keep their levels
    validation_begins: int  # the second from which on samples validate; those before it train
    test_begins: int  # likewise


class Tables(NamedTuple):
    """What a log is built of."""

    interactions: pl.LazyFrame
    items: pl.DataFrame
    users: pl.DataFrame
    config: HistoryConfig
    impressions: bool  # whether the log has rows that are no events or no samples
    growth: Growth | None
    schema: EventSchema


class Span(NamedTuple):
    """A range of the interactions by time: after a second, until another one, in seconds since the epoch."""

    after: int
    until: int

    def read(self, interactions: pl.LazyFrame, *columns: str) -> pl.DataFrame:
        second = pl.col("timestamp")
        return interactions.filter((second > self.after) & (second <= self.until)).select(columns).collect()


class Part(NamedTuple):
    """A span and counts of the rows before it."""

    number: int
    span: Span
    users: np.ndarray  # indices of its users, in order
    before: np.ndarray  # earlier events of each of them
    first_sample: int  # earlier samples of all users


class Totals(NamedTuple):
    """Counts of the whole log; candidate samples are rows with a label."""

    offsets: np.ndarray  # of the sequences
    samples: int
    last_seconds: np.ndarray  # per_user_last_out: the last two with rows that may be samples, -1 for none: (users, 2)


class _Counts(NamedTuple):
    users: np.ndarray  # indices of its users, in order
    events: np.ndarray  # how many each of them has
    last_seconds: np.ndarray  # as in `Totals`
    rows: int  # that may be samples
    # Of all of these with fewer than `min_history` earlier events in the span:
    owner: np.ndarray  # place of the row's user among the users
    earlier: np.ndarray  # how many it has


class Built(NamedTuple):
    """A part's samples, the training flag of events, and events in order of time: flat indices and columns."""

    samples: pl.LazyFrame
    training: np.ndarray
    event: np.ndarray
    columns: dict[str, np.ndarray]


def spans_of(interactions: pl.LazyFrame, rows: int, rows_per_part: int) -> list[Span]:
    """Divide the interactions into spans of about `rows_per_part` rows; rows of one second stay together."""
    last_rows = [*range(rows_per_part - 1, rows - 1, rows_per_part), rows - 1]
    seconds = [interactions.slice(row, 1).select("timestamp").collect().item() for row in last_rows]
    return [Span(after, until) for after, until in pairwise([0, *seconds]) if after < until]


def count_what_is_before(
    tables: Tables, spans: list[Span], labelled: int, report: CleaningReport, engine: EngineConfig
) -> tuple[list[Part], Totals]:
    """Return the parts, and the counts of all; raise Fault if no row has a history of `min_history` events."""
    seen, last = np.zeros(tables.users.height, dtype=np.int64), np.full((tables.users.height, 2), -1)
    min_history, samples, most, parts = tables.config.min_history, 0, 0, list[Part]()
    counted = map_shards(partial(_count, tables), spans, engine, "users' events")
    for span, counts in zip(spans, counted, strict=True):
        active = counts.users
        parts.append(Part(len(parts), span, active, seen[active], samples))
        earlier = seen[active][counts.owner] + counts.earlier
        samples += counts.rows - int(np.count_nonzero(earlier < min_history))
        most = max(most, int(earlier.max(initial=0)))
        seen[active] += counts.events
        last[active] = np.sort(np.hstack([last[active], counts.last_seconds]), axis=1)[:, -2:]
    if not samples:
        raise Fault(
            Parameter("history.min_history"),
            f"is {min_history}",
            f"none of the {labelled} interactions has a history of that many events of its user (at most {most})",
            "Lower it"
            if most
            else ("Give users with events in more than one second, or set ", Parameter("history.ties"), " to order"),
        )
    report.record("interactions", labelled, "rows in")
    report.record(f"interactions with fewer than {min_history} events in their history", labelled - samples, NO_SAMPLES)
    return parts, Totals(np.concatenate([[0], seen.cumsum()]), samples, last)


def _count(tables: Tables, span: Span) -> _Counts:
    config, second = tables.config, pl.col("timestamp")
    is_event, may_be_sample = pl.col("rating").is_not_null(), pl.col("label").is_not_null()
    # No later row of a user can have fewer than `min_history` earlier events in the span.
    early = (second <= second.filter(is_event).get(config.min_history - 1, null_on_oob=True)).fill_null(True)
    first_rows = pl.struct("timestamp", is_event=is_event, may_be_sample=may_be_sample).filter(early)
    last_but_one = last = pl.lit(-1, pl.Int64)
    if config.split.kind == "per_user_last_out":
        last = second.filter(may_be_sample).last()
        last_but_one = second.filter(may_be_sample & (second < last)).last()
    users = span.read(tables.interactions, "user_id", "timestamp", "rating", "label")
    users = users.group_by("user_id").agg(
        events=is_event.sum().cast(pl.Int64),
        may_be_samples=may_be_sample.sum(),
        last_but_one=last_but_one,
        last=last,
        rows=first_rows,
    )
    users = with_indices(users, user=tables.users).sort("user_index")
    rows = users.select(pl.int_range(pl.len()).alias("owner"), "rows").explode("rows").unnest("rows")
    opens_user = run_starts(rows["owner"].to_numpy())
    earlier = _count_since(opens_user, rows["is_event"].to_numpy())
    if config.ties == "strict":
        earlier = earlier[_first_rows(opens_user | run_starts(rows["timestamp"].to_numpy()))]
    is_early = rows["may_be_sample"].to_numpy() & (earlier < config.min_history)
    return _Counts(
        users["user_index"].to_numpy(),
        users["events"].to_numpy(),
        users.select(pl.col("last_but_one", "last").fill_null(-1)).to_numpy(),
        int(users["may_be_samples"].sum()),
        rows["owner"].to_numpy()[is_early],
        earlier[is_early],
    )


def build_part(tables: Tables, totals: Totals, folder: Path | None, part: Part) -> Built:
    """Build the samples and events of a part; write the samples to the folder, if any."""
    rows = part.span.read(tables.interactions, *tables.schema.table)
    if tables.config.ties == "strict":
        rows = rows.sort(*MOMENT_KEY, pl.struct(EVENT_KEY).hash(tables.config.seed))
    rows = with_indices(rows, user=tables.users, item=tables.items).drop("user_id", "item_id")
    rows = _with_events(rows, part.before, totals.offsets, tables)
    events = rows.filter("is_event").with_columns(pl.col("label").fill_null(1))
    samples = rows.select(*SAMPLE_COLUMNS, "is_sample").filter("is_sample").drop("is_sample")
    del rows  # what the splits' names take is free then
    samples = samples.with_columns(split=_split(samples, totals, part.first_sample, tables))
    training = samples["event"].filter(samples["split"] == "train").drop_nulls().to_numpy()
    gathered = {name: events[name].to_numpy() for name in tables.schema.arrays}
    return Built(store(samples, folder, part.number), training, events["event"].to_numpy(), gathered)


def _with_events(rows: pl.DataFrame, before: np.ndarray, offsets: np.ndarray, tables: Tables) -> pl.DataFrame:
    """Add to a part's rows their flat event index, the end of their history, and whether they are events or samples."""
    by_user = _stable_order(rows["user_index"].to_numpy())  # in order of time within a user
    user = rows["user_index"].to_numpy()[by_user]
    opens_user = run_starts(user)
    moment = _first_rows(opens_user | run_starts(rows["timestamp"].to_numpy()[by_user]))  # of the same user and second
    is_event = rows["rating"].is_not_null().to_numpy()[by_user]
    begins = _for_rows(offsets[user[opens_user]], opens_user)
    earlier = _for_rows(before.astype(np.int32), opens_user) + _count_since(opens_user, is_event)
    seen = earlier if tables.config.ties == "order" else earlier[moment]
    event, history_end, has_history = begins + earlier, begins + seen, seen >= tables.config.min_history
    if tables.impressions:
        clicked = np.bincount(moment, is_event, minlength=len(user))[moment] > 0
        event = np.where(is_event, event, np.where(clicked, history_end, -1))
    del user, opens_user, moment, begins, earlier, seen

    def in_time(values: np.ndarray) -> pl.Series:
        ordered = np.empty_like(values)
        ordered[by_user] = values
        return pl.Series(ordered)

    return rows.select(
        "user_index",
        "item_index",
        pl.col("label").cast(pl.Int8),
        "timestamp",
        pl.col("rating").cast(pl.Float32),
        *(pl.Series(name, column) for name, column in tables.schema.encoded(rows).items()),
        event=in_time(event).replace(-1, None),
        history_end=in_time(history_end),
        is_event=pl.col("rating").is_not_null(),
        is_sample=pl.col("label").is_not_null() & in_time(has_history),
    )


def _split(samples: pl.DataFrame, totals: Totals, first_sample: int, tables: Tables) -> pl.Expr:
    """Return the split of a part's samples, the first of which is number `first_sample` of the log."""
    if tables.growth:
        return split_of(pl.col("timestamp"), tables.growth.validation_begins, tables.growth.test_begins)
    if tables.config.split.kind == "global_time":
        places, seconds = tables.config.split.bounds(totals.samples), samples["timestamp"].to_numpy()
        return split_of(pl.int_range(pl.len()), *(uncut(place - first_sample, seconds) for place in places))
    user = samples["user_index"].to_numpy()
    if tables.config.ties == "order":  # every row is an event
        return split_of(pl.col("event"), *(pl.lit(pl.Series(totals.offsets[user + 1] - back)) for back in (2, 1)))
    return split_of(pl.col("timestamp"), *(pl.lit(pl.Series(bounds)) for bounds in totals.last_seconds[user].T))


def _stable_order(index: np.ndarray) -> np.ndarray:
    """Return a stable argsort of int32; sorting packed integers takes an eighth of its time."""
    return np.sort(index.astype(np.int64) << 32 | np.arange(len(index))) & (2**32 - 1)


def run_starts(column: np.ndarray) -> np.ndarray:
    opens = np.ones(len(column), dtype=bool)
    np.not_equal(column[1:], column[:-1], out=opens[1:])
    return opens


def _for_rows(values: np.ndarray, opens: np.ndarray) -> np.ndarray:
    return np.repeat(values, np.diff(np.flatnonzero(opens), append=len(opens)))


def _first_rows(opens: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.arange(len(opens), dtype=np.int32) * opens)


def _count_since(opens: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Count the flags from the first row of each row's run up to, but without, the row itself."""
    before = flags.cumsum(dtype=np.int32) - flags
    return before - _for_rows(before[opens], opens)


def store(samples: pl.DataFrame, folder: Path | None, part: int) -> pl.LazyFrame:
    """Write a part's samples to the folder, or keep them in memory without one."""
    if folder is None:
        return samples.lazy()
    folder.mkdir(exist_ok=True)
    file = folder / f"samples-{part:05}.parquet"
    samples.write_parquet(file)
    return pl.scan_parquet(file)
