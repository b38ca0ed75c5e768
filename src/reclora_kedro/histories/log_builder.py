"""From the canonical tables to the log, part by part: each user's sequence, samples, their splits and negatives.

The interactions are in the order of time. A first pass counts each user's events part by part, which tells where those
of every part belong; a second one makes each part's samples and gathers its events; a third one draws negatives, if
any. A log of at most `engine.rows_per_part` rows is one part, whose samples stay in memory; those of more parts are in
files.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog, numbered, samples_file, save_tables
from reclora_kedro.histories.negatives import Pool, draw_negatives, warn_of_left_out
from reclora_kedro.histories.sequences import Sequences, rating_levels, with_indices
from reclora_kedro.histories.splits import require_classes_in_splits, split_of
from reclora_kedro.histories.taken_items import TakenItems, sorted_pairs

SAMPLE_COLUMNS = ("user_index", "item_index", "label", "timestamp", "event", "history_end")
EVENT_COLUMNS = {"item_index": "i4", "rating": "f4", "label": "i1", "timestamp": "i8"}  # of `Sequences`
SCRATCH_COLUMNS = {"items": "i4", "seconds": "i8", "pairs": "i8", "places": "i4"}  # of `Pool` and `TakenItems`


@dataclass(frozen=True)
class LogInFiles:
    """A log whose samples are in files, which are removed with it; for saving as an `InteractionLog`."""

    items: pl.DataFrame
    users: pl.DataFrame
    sequences: Sequences
    samples: list[Path]  # in order
    scratch: TemporaryDirectory  # the folder of the samples

    def save(self, folder: Path) -> None:
        """Write what `InteractionLog.load` reads to an existing folder."""
        save_tables(folder, self.items, self.users, self.sequences)
        for file in self.samples:
            shutil.copy(file, folder)


def build_log(
    interactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: HistoryConfig,
    engine: EngineConfig = LOCAL,
) -> InteractionLog | LogInFiles:
    """The log of the canonical tables, with the events and about `engine.rows_per_part` samples in memory at once.

    Its samples are in (timestamp, user, item) order, and have the columns row (UInt32, from 0), user_index, item_index
    (Int32), label (Int8), timestamp (Int64, seconds), event (Int64, the row's own flat event index), history_end
    (Int64; the row's history is the flat events `offsets[user_index]:history_end`) and split.

    Every event with `min_history` earlier ones of its user is a sample. The history itself is strict in time: events of
    the row's own second never enter it, so that it may be shorter than `min_history`, which counts places in the
    sequence, as the paper's data preparation does. With ties in `order`, those before the row in the sequence enter it,
    as in the paper.

    In a log with rows that are no events (shown and not clicked) or no samples (starting histories), the samples of one
    user and second, such as those of an impression, share their history of at least `min_history` events and their
    split. A row that was not clicked has the `event` of a click of the same moment, or null where there was none.

    Args:
        interactions: canonical ones, as are items and users.
        items: one row per item.
        users: one row per user.
        config: settings of the step.
        engine: what the parts are shards for.

    Raises:
        MismatchError: the tables are of different runs.
        ValueError: the log is too short, a split holds one class, or settings do not fit a log of impressions.
        ShardError: the same, on a worker.

    Examples:
        >>> from reclora_kedro.histories.negatives import NegativesConfig
        >>> from reclora_kedro.histories.splits import SplitConfig
        >>> config = HistoryConfig.model_construct(
        ...     seed=0, min_history=1, ties="strict", rating_levels=None,
        ...     split=SplitConfig(kind="global_time", train=0.4, validation=0.35),
        ...     negatives=NegativesConfig(kind="none", per_positive=1),
        ... )
        >>> interactions = pl.DataFrame({
        ...     "user_id": [3, 7] * 4, "item_id": [10, 20] * 4, "rating": [4.0, 2.0] * 4,
        ...     "timestamp": [1, 1, 2, 2, 2, 3, 5, 5], "label": [1, 0] * 4,
        ... })
        >>> tables = pl.DataFrame({"item_id": [10, 20]}), pl.DataFrame({"user_id": [3, 7]})
        >>> log = build_log(interactions, *tables, config)
        >>> log.sequences.offsets, log.samples.select("event", "history_end", "split").rows()[-1]
        (array([0, 4, 8]), (7, 7, 'test'))
    """
    interactions = interactions.lazy()
    nulls = pl.col("rating", "label").null_count()
    rows, not_clicked, unlabelled = interactions.select(pl.len(), nulls).collect().row(0)
    in_memory = rows <= engine.rows_per_part
    impressions = not_clicked + unlabelled > 0
    if impressions:
        _require_settings_for_impressions(not_clicked, config)
    tables = _Tables(interactions, items, users, config, impressions)
    spans = _spans(interactions, rows, engine.rows_per_part)
    parts, offsets, units = _count_what_is_before(tables, spans, rows - unlabelled, engine)

    scratch = scratch_folder(engine.scratch)
    folder = Path(scratch.name)
    draws = config.negatives.kind != "none"
    target = None if in_memory else folder / "without_negatives" if draws else folder
    gathered = {name: np.empty(offsets[-1], dtype) for name, dtype in EVENT_COLUMNS.items()}
    trains, samples = np.zeros(offsets[-1], dtype=bool), list[pl.LazyFrame]()
    for built in map_shards(partial(_build_part, tables, offsets, units, target), parts, engine, "histories"):
        for name, column in gathered.items():
            column[built.event] = built.columns[name]
        trains[built.training] = True
        samples.append(built.samples)
        if config.negatives.kind == "matched":
            _append(folder, items=built.columns["item_index"], seconds=built.columns["timestamp"])
    levels = rating_levels(gathered["rating"], gathered["rating"][trains], config.rating_levels)
    del trains
    sequences = Sequences(offsets, rating_level=levels, **gathered)
    if draws:
        samples = _draw_for_parts(sequences, samples, config, engine, folder, in_memory)
    require_classes_in_splits(pl.concat(samples))
    if in_memory:
        scratch.cleanup()
        return InteractionLog(items, users, sequences, numbered(samples[0].collect()))
    return LogInFiles(items, users, sequences, sorted(folder.glob("samples-*")), scratch)


class _Tables(NamedTuple):
    """What every part is built of."""

    interactions: pl.LazyFrame
    items: pl.DataFrame
    users: pl.DataFrame
    config: HistoryConfig
    impressions: bool  # whether the log has rows that are no events or no samples


class _Span(NamedTuple):
    """Rows of the interactions by time: later than a second, until another one, in seconds since the epoch."""

    after: int
    until: int

    def read(self, interactions: pl.LazyFrame, *columns: str) -> pl.DataFrame:
        second = pl.col("timestamp")
        return interactions.filter((second > self.after) & (second <= self.until)).select(columns).collect()


class _Part(NamedTuple):
    """A span, and what was before it. A unit is what has one split: a sample, or the samples of an impression."""

    number: int
    span: _Span
    users: np.ndarray  # indices of its users, in order
    before: np.ndarray  # earlier events of each of them
    units_before: np.ndarray  # earlier units of each of them
    first_unit: int  # earlier units of all users


class _Counts(NamedTuple):
    """What is in a span; of a log of impressions also its moments with samples."""

    users: np.ndarray  # indices of its users, in order
    events: np.ndarray  # how many each of them has
    owner: np.ndarray | None  # the place among the users of each moment with samples
    earlier: np.ndarray | None  # events that the owner has before each of these moments, in the span

    def units(self, before: np.ndarray, min_history: int) -> np.ndarray:
        """How many units each user has here, after so many events before."""
        if self.owner is None:
            return np.maximum(before + self.events - min_history, 0) - np.maximum(before - min_history, 0)
        enough = before[self.owner] + self.earlier >= min_history
        return np.bincount(self.owner[enough], minlength=len(self.users))

    def most(self, before: np.ndarray) -> int:
        """The most earlier events that a row has which could be a sample, after so many events of each user before."""
        earlier = before + self.events - 1 if self.owner is None else before[self.owner] + self.earlier
        return int(earlier.max(initial=0))


class _Built(NamedTuple):
    """A part's samples, which events train, and its events in order of time: their flat indices, and their columns."""

    samples: pl.LazyFrame
    training: np.ndarray
    event: np.ndarray
    columns: dict[str, np.ndarray]


def _require_settings_for_impressions(not_clicked: int, config: HistoryConfig) -> None:
    if config.ties != "strict":
        raise ValueError(
            f"history.ties is {config.ties!r}, but the log holds impressions or starting histories, whose samples of "
            "one moment share their history: a click of the moment itself would give the label away. Set it to strict."
        )
    if config.negatives.kind != "none" and not_clicked:
        raise ValueError(
            f"history.negatives.kind is {config.negatives.kind!r}, but the log has {not_clicked} impressions that were "
            "not clicked, which are its negatives. Set it to none."
        )
    if config.prompt_rows.unit != "likes" and not_clicked:
        raise ValueError(
            f"history.prompt_rows.unit is {config.prompt_rows.unit!r}, but the log has {not_clicked} impressions that "
            "were not clicked: rows drawn one by one hold few clicks, and few users with a click and something else. "
            "Set it to likes, with sizes in clicks."
        )


def _spans(interactions: pl.LazyFrame, rows: int, rows_per_part: int) -> list[_Span]:
    """Spans of about so many of all rows; those of a second are in one."""
    last_rows = [*range(rows_per_part - 1, rows - 1, rows_per_part), rows - 1]
    seconds = [interactions.slice(row, 1).select("timestamp").collect().item() for row in last_rows]
    return [_Span(after, until) for after, until in pairwise([0, *seconds]) if after < until]


def _count_what_is_before(
    tables: _Tables, spans: list[_Span], labelled: int, engine: EngineConfig
) -> tuple[list[_Part], np.ndarray, np.ndarray]:
    """The parts, the offsets of the sequences, and how many units each user has."""
    seen, units = (np.zeros(tables.users.height, dtype=np.int64) for _ in range(2))
    min_history, most, parts = tables.config.min_history, 0, list[_Part]()
    counted = map_shards(partial(_count, tables), spans, engine, "users' events")
    for span, counts in zip(spans, counted, strict=True):
        active = counts.users
        parts.append(_Part(len(parts), span, active, seen[active], units[active], units.sum()))
        units[active] += counts.units(seen[active], min_history)
        most = max(most, counts.most(seen[active]))
        seen[active] += counts.events
    if most < min_history:
        raise ValueError(
            f"history.min_history is {min_history}, but none of the {labelled} interactions has that many earlier "
            f"events of its user (at most {most}): lower it"
        )
    return parts, np.concatenate([[0], seen.cumsum()]), units


def _count(tables: _Tables, span: _Span) -> _Counts:
    """What is in a span."""
    if not tables.impressions:
        counts = span.read(tables.interactions, "user_id").group_by("user_id").len()
        counts = with_indices(counts, user=tables.users).sort("user_index")
        return _Counts(counts["user_index"].to_numpy(), counts["len"].to_numpy(), None, None)
    rows = span.read(tables.interactions, "user_id", "timestamp", "rating", "label")
    moments = (
        with_indices(rows, user=tables.users)
        .group_by("user_index", "timestamp")
        .agg(events=pl.col("rating").count().cast(pl.Int64), sampled=pl.col("label").count() > 0)
        .sort("user_index", "timestamp")
        .with_columns(
            owner=pl.col("user_index").rle_id().cast(pl.Int64),
            earlier=(pl.col("events").cum_sum() - pl.col("events")).over("user_index"),
        )
    )
    counts = moments.group_by("user_index", maintain_order=True).agg(pl.col("events").sum())
    sampled = moments.filter("sampled")
    return _Counts(*(column.to_numpy() for column in (*counts, sampled["owner"], sampled["earlier"])))


def _build_part(tables: _Tables, offsets: np.ndarray, units: np.ndarray, folder: Path | None, part: _Part) -> _Built:
    """The samples and events of a part; samples are written to the folder, if there is one."""
    columns = ("user_id", "item_id", "rating", "label", "timestamp")
    rows = part.span.read(tables.interactions, *columns)
    rows = with_indices(rows, user=tables.users, item=tables.items).drop("user_id", "item_id")
    config = tables.config
    by_user = np.argsort(rows["user_index"].to_numpy(), kind="stable")  # in order of time and item within a user
    user = rows["user_index"].to_numpy()[by_user]
    opens_user = _opens(user)
    moment = _first_rows(opens_user | _opens(rows["timestamp"].to_numpy()[by_user]))  # of the same user and second
    first, owner = _first_rows(opens_user), opens_user.cumsum(dtype=np.int32) - 1  # place among the users of the part
    is_event = rows["rating"].is_not_null().to_numpy()[by_user]
    event = offsets[user] + part.before[owner] + _count_since(first, is_event)
    history_end = event if config.ties == "order" else event[moment]
    if tables.impressions:
        sampled = rows["label"].is_not_null().to_numpy()[by_user] & (history_end - offsets[user] >= config.min_history)
        clicked = np.bincount(moment, is_event, minlength=len(user))[moment] > 0
        event = np.where(is_event, event, np.where(clicked, history_end, -1))
    else:
        sampled = event - offsets[user] >= config.min_history

    opens_unit = np.zeros(len(user), dtype=bool)
    opens_unit[sampled] = _opens(moment[sampled]) if tables.impressions else True
    # The rows of a unit come after the one that opens it.
    later_units = units[user] - 1 - part.units_before[owner] - _count_since(first, opens_unit) + ~opens_unit
    del user, first, owner, moment

    def in_time(values: np.ndarray) -> np.ndarray:
        ordered = np.empty_like(values)
        ordered[by_user] = values
        return ordered

    rows = rows.select(
        "user_index",
        "item_index",
        pl.col("label").cast(pl.Int8),
        "timestamp",
        pl.Series("event", in_time(event)).replace(-1, None),
        pl.Series("history_end", in_time(history_end)),
        pl.col("rating").cast(pl.Float32),
        unit=part.first_unit + in_time(opens_unit).cumsum() - 1,
        later_units=in_time(later_units),
    )
    split = split_of(pl.col("unit"), units.sum(), pl.col("later_units"), config.split)
    samples = rows.filter(in_time(sampled)).select(*SAMPLE_COLUMNS, split=split)
    events = rows.filter(in_time(is_event)).with_columns(pl.col("label").fill_null(1))
    training = samples.filter(split="train")["event"].drop_nulls().to_numpy()
    gathered = {name: events[name].to_numpy() for name in EVENT_COLUMNS}
    return _Built(_stored(samples, folder, part.number), training, events["event"].to_numpy(), gathered)


def _opens(column: np.ndarray) -> np.ndarray:
    """Which rows differ from the one before."""
    opens = np.ones(len(column), dtype=bool)
    np.not_equal(column[1:], column[:-1], out=opens[1:])
    return opens


def _first_rows(opens: np.ndarray) -> np.ndarray:
    """The row that opens the run of each row."""
    return np.flatnonzero(opens).astype(np.int32)[opens.cumsum(dtype=np.int32) - 1]


def _count_since(first: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """How many flags are set from a row, which each row names, until before the row itself."""
    before = flags.cumsum(dtype=np.int32) - flags
    return before - before[first]


def _stored(samples: pl.DataFrame, folder: Path | None, part: int) -> pl.LazyFrame:
    """A part's samples, in a file of the folder, or in memory where there is none."""
    if folder is None:
        return samples.lazy()
    folder.mkdir(exist_ok=True)
    samples.write_parquet(folder / samples_file(part))
    return pl.scan_parquet(folder / samples_file(part))


def _draw_for_parts(
    sequences: Sequences,
    samples: list[pl.LazyFrame],
    config: HistoryConfig,
    engine: EngineConfig,
    scratch: Path,
    in_memory: bool,
) -> list[pl.LazyFrame]:
    """The samples of each part that stay, and negatives for them."""
    offsets = sequences.offsets
    if config.negatives.kind == "uniform":
        _append(scratch, **vars(Pool.from_events(sequences.item_index, sequences.timestamp, "uniform")))
    users = len(offsets) - 1
    edges = np.unique([*np.searchsorted(offsets, np.arange(0, offsets[-1], engine.rows_per_part)), users])
    for first, last in pairwise(edges.tolist()):
        pairs, places = sorted_pairs(offsets, sequences.item_index, first, last)
        _append(scratch, pairs=pairs, places=places)
    draw = partial(_draw_for_part, offsets, edges, config, scratch, None if in_memory else scratch)
    drawn, rows, left_out = zip(*map_shards(draw, list(enumerate(samples)), engine, "negatives"), strict=True)
    shutil.rmtree(scratch / "without_negatives", ignore_errors=True)
    warn_of_left_out(sum(left_out), sum(rows))
    return list(drawn)


def _draw_for_part(
    offsets: np.ndarray,
    edges: np.ndarray,
    config: HistoryConfig,
    scratch: Path,
    folder: Path | None,
    part: tuple[int, pl.LazyFrame],
) -> tuple[pl.LazyFrame, int, int]:
    """A part's samples with negatives, how many samples it had without them, and how many of these were left out.

    What users take is read of some of them at a time: from one edge to the next.
    """
    number, samples = part[0], part[1].collect().with_row_index("row")
    pool = Pool(*(np.memmap(scratch / name, SCRATCH_COLUMNS[name], mode="r") for name in ("items", "seconds")))
    together = []
    for first, last in pairwise(edges.tolist()):
        taken = TakenItems(offsets, *(_read(scratch / name, *offsets[[first, last]]) for name in ("pairs", "places")))
        some = samples.filter(pl.col("user_index").is_between(first, last, closed="left"))
        together.append(draw_negatives(some, pool, taken, config.negatives, config.seed))
    drawn = pl.concat(together).sort("row", maintain_order=True)
    left_out = samples.height - drawn["row"].n_unique()
    return _stored(drawn.drop("row"), folder, number), samples.height, left_out


def _read(file: Path, first: int, last: int) -> np.ndarray:
    """Some values of a column, from the first until before the last."""
    dtype = np.dtype(SCRATCH_COLUMNS[file.name])
    return np.fromfile(file, dtype, count=last - first, offset=first * dtype.itemsize)


def _append(folder: Path, **columns: np.ndarray) -> None:
    """Write columns behind what their files hold."""
    for name, column in columns.items():
        with (folder / name).open("ab") as file:
            column.astype(SCRATCH_COLUMNS[name]).tofile(file)
