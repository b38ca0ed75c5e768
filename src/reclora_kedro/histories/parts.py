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
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import samples_file, save_log
from reclora_kedro.histories.negatives import Pool, draw_negatives, warn_of_left_out
from reclora_kedro.histories.sequences import Sequences, rating_levels, require_long_enough, with_indices
from reclora_kedro.histories.splits import require_classes_in_splits, split_of
from reclora_kedro.histories.taken_items import TakenItems, sorted_pairs

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
    """A span, and what was before it.

    Attributes:
        number: of the part.
        span: its rows.
        users: indices of its users, in order.
        before: earlier events of each of them.
        first_row: earlier samples of all users.
    """

    number: int
    span: _Span
    users: np.ndarray
    before: np.ndarray
    first_row: int


class _Events(NamedTuple):
    """Events of a part, in order of time: flat event indices, columns as in `Sequences`, whether they train."""

    event: np.ndarray
    item_index: np.ndarray
    rating: np.ndarray
    label: np.ndarray
    timestamp: np.ndarray
    trains: np.ndarray


def build_log_in_parts(
    interactions: pl.LazyFrame, items: pl.DataFrame, users: pl.DataFrame, config: HistoryConfig, engine: EngineConfig
) -> LogInParts:
    """The log of `build_log`, with the events and about `engine.rows_per_part` samples in memory at once.

    The interactions are in the order of time. A first pass counts each user's events part by part, which tells where
    those of every part belong; a second one makes each part's samples and gathers its events; a third one draws
    negatives, if any.

    Args:
        interactions: canonical interactions, each of which has a rating and a label.
        items: canonical items.
        users: canonical users.
        config: settings of the step.
        engine: what the parts are shards for.

    Raises:
        MismatchError: the tables are of different runs.
        ValueError: the log is too short, or a split holds one class.
        ShardError: the same, on a worker.
    """
    spans = _spans(interactions, engine.rows_per_part)
    counts = map_parts(partial(_count_events, interactions, users), spans, engine, "users' events")
    seen, parts, row = np.zeros(users.height, dtype=np.int64), [], 0
    for number, (span, (active, count)) in enumerate(zip(spans, counts, strict=True)):
        before = seen[active]
        parts.append(_Part(number, span, active, before, row))
        seen[active] += count
        row += int((_samples_among(seen[active], config) - _samples_among(before, config)).sum())
    offsets = np.concatenate([[0], seen.cumsum()])
    require_long_enough(offsets, config.min_history)

    scratch = TemporaryDirectory(prefix="reclora-", dir=engine.scratch)
    folder = Path(scratch.name)
    build = partial(_build_part, interactions, items, users, config, offsets, row, folder)
    columns = {"item_index": "i4", "rating": "f4", "label": "i1", "timestamp": "i8", "trains": "?"}
    gathered = {name: np.empty(offsets[-1], dtype) for name, dtype in columns.items()}
    for events in map_parts(build, parts, engine, "histories"):
        for name, column in gathered.items():
            column[events.event] = getattr(events, name)
        if config.negatives.kind == "matched":
            _append(folder, items=events.item_index, seconds=events.timestamp)
    trains = gathered.pop("trains")
    levels = rating_levels(gathered["rating"], gathered["rating"][trains], config.rating_levels)
    sequences = Sequences(offsets, rating_level=levels, **gathered)
    samples = [folder / samples_file(part.number) for part in parts]
    if config.negatives.kind != "none":
        samples = _draw_in_parts(sequences, samples, config, engine, row)
    require_classes_in_splits(pl.scan_parquet(samples))
    return LogInParts(items, users, sequences, samples, scratch)


def _spans(interactions: pl.LazyFrame, rows_per_part: int) -> list[_Span]:
    """Spans of about so many rows; all rows of a second are in one."""
    rows = interactions.select(pl.len()).collect().item()
    last_rows = [*range(rows_per_part - 1, rows - 1, rows_per_part), rows - 1]
    seconds = [interactions.slice(row, 1).select("timestamp").collect().item() for row in last_rows]
    return [_Span(after, until) for after, until in pairwise([0, *seconds]) if after < until]


def _count_events(interactions: pl.LazyFrame, users: pl.DataFrame, span: _Span) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the users of a span, in order, and how many events each of them has there."""
    index = users.select("user_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("user_index"))
    counts = span.read(interactions, "user_id").group_by("user_id").len()
    counts = counts.join(index, on="user_id").sort("user_index")
    return counts["user_index"].to_numpy(), counts["len"].to_numpy()


def _samples_among(events: np.ndarray, config: HistoryConfig) -> np.ndarray:
    """How many of so many first events of a user are samples."""
    return np.maximum(events - config.min_history, 0)


def _build_part(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: HistoryConfig,
    offsets: np.ndarray,
    all_samples: int,
    scratch: Path,
    part: _Part,
) -> _Events:
    """Write the samples of a part, and give its events, by user."""
    rows = with_indices(part.span.read(interactions), items, users)
    by_user = np.argsort(rows["user_index"].to_numpy(), kind="stable")  # in order of time and item within a user
    user, second = (rows[name].to_numpy()[by_user] for name in ("user_index", "timestamp"))
    place = np.arange(len(user))
    opens_user = np.diff(user, prepend=-1) != 0
    opens_second = opens_user | (np.diff(second, prepend=0) != 0)
    first = np.flatnonzero(opens_user)
    rank = place + np.repeat(part.before - first, np.diff(first, append=len(user)))  # earlier events of the user
    event = offsets[user] + rank
    history_end = event if config.ties == "order" else event[np.maximum.accumulate(np.where(opens_second, place, 0))]

    in_time = np.empty_like(by_user)
    in_time[by_user] = place
    enough = rank[in_time] >= config.min_history
    rows = rows.select(
        "user_index",
        "item_index",
        pl.col("label").cast(pl.Int8),
        "timestamp",
        pl.Series("event", event[in_time]),
        pl.Series("history_end", history_end[in_time]),
        pl.col("rating").cast(pl.Float32),
    )
    rows_after = pl.Series((offsets[user + 1] - 1 - event)[in_time]).filter(enough)
    split = split_of(part.first_row + pl.int_range(pl.len()), all_samples, pl.lit(rows_after), config.split)
    samples = rows.drop("rating").filter(enough).with_columns(split=split)
    samples.write_parquet(scratch / samples_file(part.number))
    trains = np.zeros(len(user), dtype=bool)
    trains[enough] = samples["split"] == "train"
    return _Events(**{name: rows[name].to_numpy() for name in _Events._fields if name != "trains"}, trains=trains)


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
    draw = partial(_draw_part, offsets, config, drawn)
    for file, again in zip(samples, map_parts(draw, samples, engine, "negatives"), strict=True):
        file.unlink()
        left_out += again
    warn_of_left_out(left_out, rows)
    return [drawn / file.name for file in samples]


def _draw_part(offsets: np.ndarray, config: HistoryConfig, drawn: Path, file: Path) -> int:
    """Write the samples of a file, with negatives, to one of the same name, and give how many were left out."""
    items, seconds, pairs, places = (
        np.memmap(file.with_name(name), dtype, mode="r") for name, dtype in POOL_FILES.items()
    )
    pool, taken = Pool(items, seconds), TakenItems(offsets, pairs, places)
    samples, left_out = draw_negatives(pl.read_parquet(file), pool, taken, config.negatives, config.seed)
    samples.write_parquet(drawn / file.name)
    return left_out


def _append(folder: Path, **columns: np.ndarray) -> None:
    """Write columns behind what their files hold."""
    for name, column in columns.items():
        with (folder / name).open("ab") as file:
            column.astype(POOL_FILES[name]).tofile(file)
