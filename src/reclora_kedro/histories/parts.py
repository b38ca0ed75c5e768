"""The log from a table of interactions that is longer than memory: what `build_log` makes, part by part."""

import shutil
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import EngineConfig, map_parts
from reclora_kedro.files.scratch import scratch_folder
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import require_settings_for_impressions, samples_file, save_log
from reclora_kedro.histories.negatives import Pool, draw_negatives, warn_of_left_out
from reclora_kedro.histories.sequences import Sequences, rating_levels, require_long_enough, with_indices
from reclora_kedro.histories.splits import require_classes_in_splits, split_of
from reclora_kedro.histories.taken_items import TakenItems, sorted_pairs

SAMPLE_COLUMNS = ("user_index", "item_index", "label", "timestamp", "event", "history_end")  # of `build_samples`
POOL_FILES = {"items": "i4", "seconds": "i8", "pairs": "i8", "places": "i4"}  # of `Pool` and `TakenItems`


@dataclass(frozen=True)
class LogInParts:
    """A log whose samples are in files, which are removed with it; for saving as an `InteractionLog`.

    Attributes:
        items, users, sequences: those of the log.
        samples: files with the samples, in order.
        scratch: the folder of the files.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    sequences: Sequences
    samples: list[Path]
    scratch: TemporaryDirectory

    def save(self, folder: Path) -> None:
        """Write what `InteractionLog.load` reads to an existing folder."""
        save_log(folder, self.items, self.users, self.sequences)
        for file in self.samples:
            shutil.copy(file, folder)


class _Span(NamedTuple):
    """Rows of the interactions by time: later than a second, until another one, in seconds since the epoch."""

    after: int
    until: int

    def read(self, interactions: pl.LazyFrame, *columns: str) -> pl.DataFrame:
        second = pl.col("timestamp")
        return interactions.filter((second > self.after) & (second <= self.until)).select(columns or pl.all()).collect()


class _Part(NamedTuple):
    """A span, and what was before it. A unit is what has one split: a sample, or the samples of an impression.

    Attributes:
        number: of the part.
        span: its rows.
        users: indices of its users, in order.
        before: earlier events of each of them.
        units_before: earlier units of each of them.
        first_unit: earlier units of all users.
    """

    number: int
    span: _Span
    users: np.ndarray
    before: np.ndarray
    units_before: np.ndarray
    first_unit: int


class _Counted(NamedTuple):
    """What is in a span.

    Attributes:
        users: indices of its users, in order.
        events: how many each of them has.
        owner: of a log of impressions, the place among the users of each moment with samples.
        earlier: events that the owner has before each of these moments, in the span.
    """

    users: np.ndarray
    events: np.ndarray
    owner: np.ndarray | None
    earlier: np.ndarray | None

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


class _Events(NamedTuple):
    """Events of a part, in order of time: flat event indices, columns as in `Sequences`, events of training samples."""

    event: np.ndarray
    item_index: np.ndarray
    rating: np.ndarray
    label: np.ndarray
    timestamp: np.ndarray
    training: np.ndarray


def build_log_in_parts(
    interactions: pl.LazyFrame, items: pl.DataFrame, users: pl.DataFrame, config: HistoryConfig, engine: EngineConfig
) -> LogInParts:
    """The log of `build_log`, with the events and about `engine.rows_per_part` samples in memory at once.

    The interactions are in the order of time. A first pass counts each user's events part by part, which tells where
    those of every part belong; a second one makes each part's samples and gathers its events; a third one draws
    negatives, if any.

    Args:
        interactions: canonical interactions.
        items: canonical items.
        users: canonical users.
        config: settings of the step.
        engine: what the parts are shards for.

    Raises:
        MismatchError: the tables are of different runs.
        ValueError: the log is too short, a split holds one class, or settings do not fit a log of impressions.
        ShardError: the same, on a worker.
    """
    nulls = pl.col("rating", "label").null_count()
    rows, not_clicked, unlabelled = interactions.select(pl.len(), nulls).collect().row(0)
    impressions = not_clicked + unlabelled > 0
    if impressions:
        require_settings_for_impressions(not_clicked, config)
    spans = _spans(interactions, rows, engine.rows_per_part)
    count = partial(_count, interactions, users, impressions)
    seen, units = (np.zeros(users.height, dtype=np.int64) for _ in range(2))
    most, parts = 0, list[_Part]()
    for span, counted in zip(spans, map_parts(count, spans, engine, "users' events"), strict=True):
        active = counted.users
        parts.append(_Part(len(parts), span, active, seen[active], units[active], units.sum()))
        units[active] += counted.units(seen[active], config.min_history)
        most = max(most, counted.most(seen[active]))
        seen[active] += counted.events
    offsets = np.concatenate([[0], seen.cumsum()])
    require_long_enough(most, rows - unlabelled, config.min_history)

    scratch = scratch_folder(engine.scratch)
    folder = Path(scratch.name)
    build = partial(_build_part, interactions, items, users, config, impressions, offsets, units, folder)
    columns = {"item_index": "i4", "rating": "f4", "label": "i1", "timestamp": "i8"}
    gathered = {name: np.empty(offsets[-1], dtype) for name, dtype in columns.items()}
    trains = np.zeros(offsets[-1], dtype=bool)
    for events in map_parts(build, parts, engine, "histories"):
        for name, column in gathered.items():
            column[events.event] = getattr(events, name)
        trains[events.training] = True
        if config.negatives.kind == "matched":
            _append(folder, items=events.item_index, seconds=events.timestamp)
    levels = rating_levels(gathered["rating"], gathered["rating"][trains], config.rating_levels)
    del trains
    sequences = Sequences(offsets, rating_level=levels, **gathered)
    samples = [folder / samples_file(part.number) for part in parts]
    if config.negatives.kind != "none":
        samples = _draw_in_parts(sequences, samples, config, engine, int(units.sum()))
    require_classes_in_splits(pl.scan_parquet(samples))
    return LogInParts(items, users, sequences, samples, scratch)


def _spans(interactions: pl.LazyFrame, rows: int, rows_per_part: int) -> list[_Span]:
    """Spans of about so many of all rows; those of a second are in one."""
    last_rows = [*range(rows_per_part - 1, rows - 1, rows_per_part), rows - 1]
    seconds = [interactions.slice(row, 1).select("timestamp").collect().item() for row in last_rows]
    return [_Span(after, until) for after, until in pairwise([0, *seconds]) if after < until]


def _count(interactions: pl.LazyFrame, users: pl.DataFrame, impressions: bool, span: _Span) -> _Counted:
    """What is in a span."""
    index = users.select("user_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("user_index"))
    if not impressions:
        counts = span.read(interactions, "user_id").group_by("user_id").len()
        counts = counts.join(index, on="user_id").sort("user_index")
        return _Counted(counts["user_index"].to_numpy(), counts["len"].to_numpy(), None, None)
    moments = (
        span.read(interactions, "user_id", "timestamp", "rating", "label")
        .join(index, on="user_id")
        .group_by("user_index", "timestamp")
        .agg(events=pl.col("rating").count().cast(pl.Int64), sampled=pl.col("label").count() > 0)
        .sort("user_index", "timestamp")
        .select(
            "user_index",
            "events",
            "sampled",
            owner=pl.col("user_index").rle_id().cast(pl.Int64),
            earlier=(pl.col("events").cum_sum() - pl.col("events")).over("user_index"),
        )
    )
    counts = moments.group_by("user_index", maintain_order=True).agg(pl.col("events").sum())
    sampled = moments.filter("sampled")
    return _Counted(*(column.to_numpy() for column in (*counts, sampled["owner"], sampled["earlier"])))


def _build_part(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: HistoryConfig,
    impressions: bool,
    offsets: np.ndarray,
    units: np.ndarray,
    scratch: Path,
    part: _Part,
) -> _Events:
    """Write the samples of a part, and give its events."""
    rows = with_indices(part.span.read(interactions), items, users)
    by_user = np.argsort(rows["user_index"].to_numpy(), kind="stable")  # in order of time and item within a user
    user, second = (rows[name].to_numpy()[by_user] for name in ("user_index", "timestamp"))
    in_time = np.empty_like(by_user)
    in_time[by_user] = np.arange(len(user))

    opens_user = _opens(user)
    owner = opens_user.cumsum() - 1  # place among the users of the part
    first = np.flatnonzero(opens_user)[owner]  # the user's first row
    is_event = rows["rating"].is_not_null().to_numpy()[by_user]
    event = offsets[user] + _count_since(first, is_event) + part.before[owner]
    opens_moment = _opens(user, second)
    moment = np.flatnonzero(opens_moment)[opens_moment.cumsum() - 1]  # the first row of the same user and second
    history_end = event if config.ties == "order" else event[moment]
    if impressions:
        sampled = rows["label"].is_not_null().to_numpy()[by_user] & (history_end - offsets[user] >= config.min_history)
        clicked = np.bincount(moment, is_event, minlength=len(user))[moment] > 0
        event = np.where(is_event, event, np.where(clicked, history_end, -1))
    else:
        sampled = event - offsets[user] >= config.min_history

    opens_unit = np.zeros(len(user), dtype=bool)
    opens_unit[sampled] = _opens(user[sampled], second[sampled]) if impressions else True
    # The rows of a unit come after the one that opens it.
    place = _count_since(first, opens_unit) - ~opens_unit + part.units_before[owner]
    rows = rows.select(
        "user_index",
        "item_index",
        pl.col("label").cast(pl.Int8),
        "timestamp",
        pl.Series("event", event[in_time]).replace(-1, None),
        pl.Series("history_end", history_end[in_time]),
        pl.col("rating").cast(pl.Float32),
        number=part.first_unit + opens_unit[in_time].cumsum() - 1,
        units_after=(units[user] - 1 - place)[in_time],
    )
    split = split_of(pl.col("number"), units.sum(), pl.col("units_after"), config.split)
    samples = rows.filter(sampled[in_time]).select(*SAMPLE_COLUMNS, split=split)
    samples.write_parquet(scratch / samples_file(part.number))
    events = rows.filter(is_event[in_time]).with_columns(pl.col("label").fill_null(1))
    columns = {name: events[name].to_numpy() for name in _Events._fields if name != "training"}
    return _Events(**columns, training=samples.filter(split="train")["event"].drop_nulls().to_numpy())


def _opens(*columns: np.ndarray) -> np.ndarray:
    """Which rows differ from the one before in a column."""
    opens = np.ones(len(columns[0]), dtype=bool)
    opens[1:] = np.any([np.diff(column) != 0 for column in columns], axis=0)
    return opens


def _count_since(first: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """How many flags are set from a row, which each row names, until before the row itself."""
    before = flags.cumsum() - flags
    return before - before[first]


def _draw_in_parts(
    sequences: Sequences, samples: list[Path], config: HistoryConfig, engine: EngineConfig, rows: int
) -> list[Path]:
    """Files with the samples of other ones and negatives for them."""
    scratch, offsets = samples[0].parent, sequences.offsets
    if config.negatives.kind == "uniform":
        _append(scratch, **vars(Pool.of(sequences.item_index, sequences.timestamp, "uniform")))
    users = len(offsets) - 1
    edges = np.unique([*np.searchsorted(offsets, np.arange(0, offsets[-1], engine.rows_per_part)), users])
    for first, last in pairwise(edges.tolist()):
        pairs, places = sorted_pairs(offsets, sequences.item_index, first, last)
        _append(scratch, pairs=pairs, places=places)
    drawn = scratch / "with_negatives"
    drawn.mkdir()
    left_out = 0
    draw = partial(_draw_part, offsets, edges, config, drawn)
    for file, again in zip(samples, map_parts(draw, samples, engine, "negatives"), strict=True):
        file.unlink()
        left_out += again
    warn_of_left_out(left_out, rows)
    return [drawn / file.name for file in samples]


def _draw_part(offsets: np.ndarray, edges: np.ndarray, config: HistoryConfig, drawn: Path, file: Path) -> int:
    """Write the samples of a file, with negatives, to one of the same name, and give how many were left out.

    What users take is read of some of them at a time: from one of the edges to the next.
    """
    pool = Pool(*(np.memmap(file.with_name(name), POOL_FILES[name], mode="r") for name in ("items", "seconds")))
    samples, together = pl.read_parquet(file).with_row_index("row"), []
    for first, last in pairwise(edges.tolist()):
        taken = TakenItems(
            offsets, *(_read(file.with_name(name), *offsets[[first, last]]) for name in ("pairs", "places"))
        )
        some = samples.filter(pl.col("user_index").is_between(first, last, closed="left"))
        together.append(draw_negatives(some, pool, taken, config.negatives, config.seed))
    with_negatives = pl.concat(together).sort("row", maintain_order=True)
    with_negatives.drop("row").write_parquet(drawn / file.name)
    return samples.height - with_negatives["row"].n_unique()


def _read(file: Path, first: int, last: int) -> np.ndarray:
    """Some values of a column, from the first until before the last."""
    dtype = np.dtype(POOL_FILES[file.name])
    return np.fromfile(file, dtype, count=last - first, offset=first * dtype.itemsize)


def _append(folder: Path, **columns: np.ndarray) -> None:
    """Write columns behind what their files hold."""
    for name, column in columns.items():
        with (folder / name).open("ab") as file:
            column.astype(POOL_FILES[name]).tofile(file)
