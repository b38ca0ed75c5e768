"""Negatives for the samples of a log in parts, drawn from columns in scratch files."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import EngineConfig, map_shards
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log_parts import run_starts, store
from reclora_kedro.history.negatives import Pool, draw_negatives, first_events, warn_of_left_out
from reclora_kedro.history.sequences import Sequences, edges_of_blocks
from reclora_kedro.history.splits import SPLIT_NAMES
from reclora_kedro.history.taken_items import TakenItems, sorted_pairs

WITHOUT_NEGATIVES = "without_negatives"  # folder of the samples before the draw, in the scratch folder
COLUMNS = {"items": "i4", "seconds": "i8", "pairs": "i8", "places": "i4"}
"""Columns of `Pool` and `TakenItems` in scratch files."""


class DrawnSamples(NamedTuple):
    """Samples of the parts with negatives, the likes that are no samples any more, and the number left out."""

    samples: list[pl.LazyFrame]
    repeats: pl.LazyFrame
    left_out: int


def samples_with_negatives(
    sequences: Sequences,
    samples: list[pl.LazyFrame],
    config: HistoryConfig,
    engine: EngineConfig,
    scratch: Path,
    in_memory: bool,
) -> DrawnSamples:
    """Draw negatives for the samples of all parts; those of several parts are written to the scratch folder."""
    offsets, item_index = sequences.offsets, sequences.item_index
    edges = edges_of_blocks(offsets, engine.rows_per_part)
    is_first = np.empty(offsets[-1], dtype=bool)  # whether the event's user had not taken its item before
    for first, last in pairwise(edges.tolist()):
        pairs, places = sorted_pairs(offsets, item_index, first, last)
        is_first[offsets[pairs >> 32] + places] = run_starts(pairs)
        _append(scratch, pairs=pairs, places=places)
    ends = _write_pools(sequences, samples, is_first, config, scratch)
    del is_first
    draw = _Draw(offsets, edges, ends, config, scratch, None if in_memory else scratch)
    parts = [*map_shards(draw, list(enumerate(samples)), engine, "negatives")]
    drawn, repeats, rows, left_out = zip(*parts, strict=True)
    shutil.rmtree(scratch / WITHOUT_NEGATIVES, ignore_errors=True)
    warn_of_left_out(sum(left_out), sum(rows))
    return DrawnSamples(list(drawn), pl.concat(repeats), sum(left_out))


def _write_pools(
    sequences: Sequences, samples: list[pl.LazyFrame], is_first: np.ndarray, config: HistoryConfig, scratch: Path
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
            likes = rows.filter(is_first[event], label=1)
            _append(scratch / split, items=likes["item_index"].to_numpy(), seconds=likes["timestamp"].to_numpy())
    return ends


@dataclass(frozen=True)
class _Draw:
    """Draws the negatives of a part, on a worker; taken items are read for a block of users at a time."""

    offsets: np.ndarray  # of the sequences
    edges: np.ndarray  # the first user of each block, and the number of users
    ends: Mapping[str, np.ndarray]  # by split, see `Pool`
    config: HistoryConfig
    scratch: Path
    folder: Path | None  # of the drawn samples; None keeps them in memory

    def __call__(self, part: tuple[int, pl.LazyFrame]) -> tuple[pl.LazyFrame, pl.LazyFrame, int, int]:
        """Return the samples with negatives and the repeats of a part; and how many samples it had and left out."""
        number, samples = part[0], part[1].collect().with_row_index("row")
        pools = {}
        for split in SPLIT_NAMES:
            items, seconds = (_mapped(self.scratch / split / name) for name in ("items", "seconds"))
            pools[split] = Pool(items, seconds, self.ends[split])
        together = []
        for first, last in pairwise(self.edges.tolist()):
            events = slice(*self.offsets[[first, last]])
            pairs, places = (_mapped(self.scratch / name)[events] for name in ("pairs", "places"))
            some = samples.filter(pl.col("user_index").is_between(first, last, closed="left"))
            taken_items = TakenItems(self.offsets, pairs, places)
            together.append(draw_negatives(some, pools, taken_items, self.config.negatives, self.config.seed))
        drawn = pl.concat(together).sort("row", maintain_order=True)
        left_out = samples.join(drawn, on="row", how="anti", maintain_order="left").drop("row")
        repeats = store(left_out.filter(label=1), self.folder and self.folder / "repeats", number)
        return store(drawn.drop("row"), self.folder, number), repeats, samples.height, left_out.height


def _mapped(file: Path) -> np.ndarray:
    """Map a column file into memory; return an empty array if it is missing."""
    dtype = COLUMNS[file.name]
    return np.memmap(file, dtype, mode="r") if file.exists() and file.stat().st_size else np.empty(0, dtype)


def _append(folder: Path, **columns: np.ndarray) -> None:
    for name, column in columns.items():
        with (folder / name).open("ab") as file:
            column.astype(COLUMNS[name]).tofile(file)
