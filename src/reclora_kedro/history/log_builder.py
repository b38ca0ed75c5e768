"""The log from the canonical tables, part by part: sequences of users, samples, their splits and negatives.

The interactions are in the order of time. A first pass counts each user's events per part, which gives the positions of
the events of every part; a second one makes each part's samples and gathers its events; a third one draws negatives, if
any. A log of at most `engine.rows_per_part` rows is one part, whose samples stay in memory; samples of several parts
are written to files.
"""

import shutil
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.negatives import Pool, draw_negatives, first_events, warn_of_left_out
from reclora_kedro.history.sequences import (
    Sequences,
    edges_of_blocks,
    levels_as_before,
    rating_levels,
    with_indices,
)
from reclora_kedro.history.splits import (
    SPLIT_NAMES,
    count_in_splits,
    require_classes_in_splits,
    require_training_samples,
    split_of,
    uncut,
)
from reclora_kedro.history.taken_items import TakenItems, sorted_pairs
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.events import EVENT_KEY, MOMENT_KEY, PLAIN, EventSchema

SAMPLE_COLUMNS = ("user_index", "item_index", "label", "timestamp", "event", "history_end")
NO_SAMPLES = "no samples; events stay in histories"
SCRATCH_COLUMNS = {"items": "i4", "seconds": "i8", "pairs": "i8", "places": "i4"}  # of `Pool` and `TakenItems`


class Growth(NamedTuple):
    """What a grown log keeps of an earlier one, and how later samples are split."""

    before: Sequences  # of the earlier log, whose ratings keep their levels
    validation_begins: int  # the second from which on samples validate; those before it train
    test_begins: int  # likewise


def build_log(
    interactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: HistoryConfig,
    engine: EngineConfig = LOCAL,
    report: CleaningReport | None = None,
    growth: Growth | None = None,
    schema: EventSchema = PLAIN,
) -> InteractionLog | LogInFiles:
    """Build the log, with the events and about `engine.rows_per_part` samples in memory at once.

    Its samples are in (timestamp, user) order, and have the columns row (UInt32, from 0), user_index, item_index
    (Int32), label (Int8), timestamp (Int64, seconds), event (Int64, the row's own flat event index), history_end
    (Int64; the row's history is the flat events `offsets[user_index]:history_end`) and split. Events of one user and
    second keep the order of the interactions with ties in `order`, and else have one that is drawn by the seed: ids
    may be in an order that means nothing, and whatever learns from sequences would learn it.

    Every row whose history holds at least `min_history` events is a sample. Histories are strict in time: events of the
    row's own second never enter them, so that the samples of one user and second, such as those of an impression or a
    basket, share theirs. With ties in `order`, the events before the row in the sequence enter it, as in the paper.

    Some logs have rows that are no events (shown and not clicked) or no samples (starting histories). A row that was
    not clicked has the `event` of a click of the same moment, or null where there was none.

    Where negatives are drawn, items that the user took before are no samples; likes of these are `repeats`, with the
    columns of samples and row numbers that follow theirs. Growth replaces `config.split` and `config.rating_levels`;
    splits may then have one class or be empty, see `require_training`. Columns of the schema that the interactions lack
    have no values.

    Tables of different runs are refused by a MismatchError; a log that is too short, or none of whose samples trains,
    and settings that do not fit a log of impressions by a Fault; any of these on a worker by a ShardError.
    """
    interactions, report = schema.complete(interactions.lazy()), report or CleaningReport()
    schema = (schema.after(growth.before.schema) if growth else schema).coded(interactions)
    nulls = pl.col("rating", "label").null_count()
    rows, not_clicked, unlabelled = interactions.select(pl.len(), nulls).collect().row(0)
    in_memory = rows <= engine.rows_per_part
    engine = engine.here() if in_memory else engine
    impressions = not_clicked + unlabelled > 0
    if impressions:
        _require_settings_for_impressions(not_clicked, config)
    tables = _Tables(interactions, items, users, config, impressions, growth, schema)
    spans = _spans(interactions, rows, engine.rows_per_part)
    parts, totals = _count_what_is_before(tables, spans, rows - unlabelled, report, engine)

    scratch = scratch_folder(engine.scratch)
    folder = Path(scratch.name)
    draws = config.negatives.kind != "none"
    target = None if in_memory else folder / "without_negatives" if draws else folder
    events = totals.offsets[-1]
    gathered = {name: np.empty(events, dtype) for name, dtype in schema.arrays.items()}
    trains, samples = np.zeros(events, dtype=bool), list[pl.LazyFrame]()
    for built in map_shards(partial(_build_part, tables, totals, target), parts, engine, "histories"):
        for name, column in gathered.items():
            column[built.event] = built.columns[name]
        trains[built.training] = True
        samples.append(built.samples)
    if growth:
        levels = levels_as_before(gathered["rating"], growth.before)
    else:
        levels = rating_levels(gathered["rating"], gathered["rating"][trains], config.rating_levels)
    schema = schema.scaled(gathered, trains)
    del trains
    sequences = Sequences.from_columns(totals.offsets, schema, rating_level=levels, **gathered)
    repeats = None
    if draws:
        samples, repeats = _draw_for_parts(sequences, samples, config, engine, folder, in_memory, report)
    counts = count_in_splits(pl.concat(samples))
    for split, (likes, height) in counts.items():
        report.record(f"{split} samples", height, f"rows kept; {likes / max(height, 1):.1%} of them likes")
    if config.split.kind == "per_user_last_out" and not growth:
        second, part = pl.col("timestamp"), pl.col("split")
        later = (part == "train") & (second > second.filter(part == "test").min())
        found = pl.concat(samples).select(later.sum().cast(pl.Int64)).collect(engine="streaming").item()
        report.record(
            "train samples later than the first test sample", found, "their statistics know others' test labels"
        )
    if config.shared_clock and not growth:
        require_training_samples(counts["train"][1], config.min_history)
    kept, clock = sum(height for _, height in counts.values()), config.shared_clock
    if repeats is not None:
        repeats = repeats.with_row_index("row", kept)
    if in_memory:
        scratch.cleanup()
        rows_in_memory = samples[0].with_row_index("row").collect()
        repeats_in_memory = None if repeats is None else repeats.collect()
        return InteractionLog(items, users, sequences, rows_in_memory, shared_clock=clock, repeats=repeats_in_memory)
    return LogInFiles(items, users, sequences, pl.concat(samples), kept, scratch, clock, repeats)


def require_training(log: InteractionLog | LogInFiles) -> None:
    """Raise Fault for a grown log whose training samples are of one class."""
    require_classes_in_splits({"train": count_in_splits(log.samples.lazy())["train"]})


class _Tables(NamedTuple):
    interactions: pl.LazyFrame
    items: pl.DataFrame
    users: pl.DataFrame
    config: HistoryConfig
    impressions: bool  # whether the log has rows that are no events or no samples
    growth: Growth | None
    schema: EventSchema


class _Span(NamedTuple):
    """A range of the interactions by time: after a second, until another one, in seconds since the epoch."""

    after: int
    until: int

    def read(self, interactions: pl.LazyFrame, *columns: str) -> pl.DataFrame:
        second = pl.col("timestamp")
        return interactions.filter((second > self.after) & (second <= self.until)).select(columns).collect()


class _Part(NamedTuple):
    """A span and counts of the rows before it."""

    number: int
    span: _Span
    users: np.ndarray  # indices of its users, in order
    before: np.ndarray  # earlier events of each of them
    first_sample: int  # earlier samples of all users


class _Totals(NamedTuple):
    """Counts of the whole log; candidate samples are rows with a label."""

    offsets: np.ndarray  # of the sequences
    samples: int
    last_seconds: np.ndarray  # per_user_last_out: the last two with rows that may be samples, -1 for none: (users, 2)


class _Counts(NamedTuple):
    users: np.ndarray  # indices of its users, in order
    events: np.ndarray  # how many each of them has
    last_seconds: np.ndarray  # as in `_Totals`
    rows: int  # that may be samples
    # Of all of these with fewer than `min_history` earlier events in the span:
    owner: np.ndarray  # place of the row's user among the users
    earlier: np.ndarray  # how many it has


class _Built(NamedTuple):
    """A part's samples, the training flag of events, and events in order of time: flat indices and columns."""

    samples: pl.LazyFrame
    training: np.ndarray
    event: np.ndarray
    columns: dict[str, np.ndarray]


def _require_settings_for_impressions(not_clicked: int, config: HistoryConfig) -> None:
    if config.ties != "strict":
        raise Fault(
            Parameter("history.ties"),
            f"is {config.ties!r}, but the log holds impressions or starting histories",
            "their samples of one moment share their history, for a click of the moment itself would give it away",
            "Set it to strict",
        )
    if config.negatives.kind != "none" and not_clicked:
        raise Fault(
            Parameter("history.negatives.kind"),
            f"is {config.negatives.kind!r}",
            f"the log has {not_clicked} impressions that were not clicked, which are its negatives",
            "Set it to none",
        )
    if config.prompt_rows.unit != "likes" and not_clicked:
        raise Fault(
            Parameter("history.prompt_rows.unit"),
            f"is {config.prompt_rows.unit!r}, but the log has {not_clicked} impressions that were not clicked",
            "rows drawn one by one hold few clicks, and few users with a click and something else",
            "Set it to likes, with sizes in clicks",
        )


def _spans(interactions: pl.LazyFrame, rows: int, rows_per_part: int) -> list[_Span]:
    """Divide the interactions into spans of about `rows_per_part` rows; rows of one second stay together."""
    last_rows = [*range(rows_per_part - 1, rows - 1, rows_per_part), rows - 1]
    seconds = [interactions.slice(row, 1).select("timestamp").collect().item() for row in last_rows]
    return [_Span(after, until) for after, until in pairwise([0, *seconds]) if after < until]


def _count_what_is_before(
    tables: _Tables, spans: list[_Span], labelled: int, report: CleaningReport, engine: EngineConfig
) -> tuple[list[_Part], _Totals]:
    seen, last = np.zeros(tables.users.height, dtype=np.int64), np.full((tables.users.height, 2), -1)
    min_history, samples, most, parts = tables.config.min_history, 0, 0, list[_Part]()
    counted = map_shards(partial(_count, tables), spans, engine, "users' events")
    for span, counts in zip(spans, counted, strict=True):
        active = counts.users
        parts.append(_Part(len(parts), span, active, seen[active], samples))
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
    return parts, _Totals(np.concatenate([[0], seen.cumsum()]), samples, last)


def _count(tables: _Tables, span: _Span) -> _Counts:
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
    opens_user = _run_starts(rows["owner"].to_numpy())
    earlier = _count_since(opens_user, rows["is_event"].to_numpy())
    if config.ties == "strict":
        earlier = earlier[_first_rows(opens_user | _run_starts(rows["timestamp"].to_numpy()))]
    is_early = rows["may_be_sample"].to_numpy() & (earlier < config.min_history)
    return _Counts(
        users["user_index"].to_numpy(),
        users["events"].to_numpy(),
        users.select(pl.col("last_but_one", "last").fill_null(-1)).to_numpy(),
        int(users["may_be_samples"].sum()),
        rows["owner"].to_numpy()[is_early],
        earlier[is_early],
    )


def _build_part(tables: _Tables, totals: _Totals, folder: Path | None, part: _Part) -> _Built:
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
    return _Built(_stored(samples, folder, part.number), training, events["event"].to_numpy(), gathered)


def _with_events(rows: pl.DataFrame, before: np.ndarray, offsets: np.ndarray, tables: _Tables) -> pl.DataFrame:
    """Add to a part's rows their flat event index, the end of their history, and whether they are events or samples."""
    by_user = _stable_order(rows["user_index"].to_numpy())  # in order of time within a user
    user = rows["user_index"].to_numpy()[by_user]
    opens_user = _run_starts(user)
    moment = _first_rows(opens_user | _run_starts(rows["timestamp"].to_numpy()[by_user]))  # of the same user and second
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


def _split(samples: pl.DataFrame, totals: _Totals, first_sample: int, tables: _Tables) -> pl.Expr:
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


def _run_starts(column: np.ndarray) -> np.ndarray:
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


def _stored(samples: pl.DataFrame, folder: Path | None, part: int) -> pl.LazyFrame:
    """Write a part's samples to the folder, or keep them in memory without one."""
    if folder is None:
        return samples.lazy()
    folder.mkdir(exist_ok=True)
    file = folder / f"samples-{part:05}.parquet"
    samples.write_parquet(file)
    return pl.scan_parquet(file)


def _draw_for_parts(
    sequences: Sequences,
    samples: list[pl.LazyFrame],
    config: HistoryConfig,
    engine: EngineConfig,
    scratch: Path,
    in_memory: bool,
    report: CleaningReport,
) -> tuple[list[pl.LazyFrame], pl.LazyFrame]:
    """Return the samples of the parts with negatives, and the likes that are none any more."""
    offsets = sequences.offsets
    edges = edges_of_blocks(offsets, engine.rows_per_part)
    taken_first = np.empty(offsets[-1], dtype=bool)
    for first, last in pairwise(edges.tolist()):
        pairs, places = sorted_pairs(offsets, sequences.item_index, first, last)
        taken_first[offsets[pairs >> 32] + places] = _run_starts(pairs)
        _append(scratch, pairs=pairs, places=places)
    ends = _file_pools(sequences, samples, taken_first, config, scratch)
    del taken_first
    draw = partial(_draw_for_part, offsets, ends, edges, config, scratch, None if in_memory else scratch)
    drawn, rows, left_out, repeats = zip(*map_shards(draw, list(enumerate(samples)), engine, "negatives"), strict=True)
    shutil.rmtree(scratch / "without_negatives", ignore_errors=True)
    warn_of_left_out(sum(left_out), sum(rows))
    report.record("interactions with items that their user had taken before", sum(left_out), NO_SAMPLES)
    return list(drawn), pl.concat(repeats)


def _file_pools(
    sequences: Sequences, samples: list[pl.LazyFrame], taken_first: np.ndarray, config: HistoryConfig, scratch: Path
) -> dict[str, np.ndarray]:
    """Write the events that negatives of each split are drawn from, and return the `ends` of its `Pool`."""
    ends = {split: sequences.offsets[:-1].copy() for split in SPLIT_NAMES}
    for split in SPLIT_NAMES:
        (scratch / split).mkdir()
        if config.negatives.kind == "uniform":
            _append(scratch / split, **first_events(sequences.item_index, sequences.timestamp))
    for part, split in product(samples, SPLIT_NAMES):
        rows = part.filter(split=split).select("user_index", "item_index", "timestamp", "event", "label").collect()
        event = rows["event"].to_numpy()
        ends[split][rows["user_index"].to_numpy()] = event + 1  # in the order of time, so that the last one stays
        if config.negatives.kind == "matched":
            likes = rows.filter(taken_first[event], label=1)
            _append(scratch / split, items=likes["item_index"].to_numpy(), seconds=likes["timestamp"].to_numpy())
    return ends


def _draw_for_part(
    offsets: np.ndarray,
    ends: dict[str, np.ndarray],
    edges: np.ndarray,
    config: HistoryConfig,
    scratch: Path,
    folder: Path | None,
    part: tuple[int, pl.LazyFrame],
) -> tuple[pl.LazyFrame, int, int, pl.LazyFrame]:
    """Return a part's samples with negatives, its number of samples without them, the number left out, and its repeats.

    The taken items are read for a block of users at a time: from one edge to the next.
    """
    number, samples = part[0], part[1].collect().with_row_index("row")
    pools = {}
    for split in SPLIT_NAMES:
        items, seconds = (_mapped(scratch / split / name) for name in ("items", "seconds"))
        pools[split] = Pool(items, seconds, ends[split])
    together = []
    for first, last in pairwise(edges.tolist()):
        events = slice(*offsets[[first, last]])
        taken_items = TakenItems(offsets, *(_mapped(scratch / name)[events] for name in ("pairs", "places")))
        some = samples.filter(pl.col("user_index").is_between(first, last, closed="left"))
        together.append(draw_negatives(some, pools, taken_items, config.negatives, config.seed))
    drawn = pl.concat(together).sort("row", maintain_order=True)
    left_out = samples.join(drawn, on="row", how="anti", maintain_order="left").drop("row")
    repeats = _stored(left_out.filter(label=1), folder and folder / "repeats", number)
    return _stored(drawn.drop("row"), folder, number), samples.height, left_out.height, repeats


def _mapped(file: Path) -> np.ndarray:
    """Map a column file into memory; return an empty array if it is missing."""
    dtype = SCRATCH_COLUMNS[file.name]
    return np.memmap(file, dtype, mode="r") if file.exists() and file.stat().st_size else np.empty(0, dtype)


def _append(folder: Path, **columns: np.ndarray) -> None:
    for name, column in columns.items():
        with (folder / name).open("ab") as file:
            column.astype(SCRATCH_COLUMNS[name]).tofile(file)
