"""Seconds, rows per second and peak memory from a raw CSV file to histories and a lens epoch, at growing sizes.

    make bench-histories
    python benchmarks/histories.py --rows 100000 1000000

The logs are shaped like MovieLens-25M. Each size runs in a process of its own.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import yaml
from measuring import peak_gib, reset_peak
from results import publish
from running import run
from synthetic_log import make_log
from tqdm import tqdm

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.schema import Interactions
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables

CONF = Path(__file__).parents[1] / "conf" / "base"
SIZES = (100_000, 1_000_000, 25_000_095)
EMBEDDING_DIM = 64
RETRIEVED_ROWS, LOOP_ROWS = 100_000, 500
LENS_ROWS, LENS_VALIDATION_ROWS = 1_000_000, 10_000
INGESTION = IngestionConfig.model_validate(
    {
        "interactions": {
            "user_id": "user_id", "item_id": "item_id", "rating": "rating", "timestamp": "timestamp",
            "timestamp_format": "unix_seconds",
        },
        "items": {
            "item_id": "item_id", "title": "title", "missing_title": "Unknown title", "trailing_articles": [],
            "fields": [{"name": "genres", "column": "genres"}],
        },
        "users": None,
        "plausible_times": {"first_day": "1990-01-01", "last_day": None, "max_outside": 0},
        "max_ratings_outside": 1,
        "max_share_of_one_id": 1,
        "max_missing": 0,
        "rating_min": 0.5,
        "rating_max": 5,
        "label_threshold": 4,
        "duplicates": "highest_rating",
        "k_core": 0,
    }
)  # fmt: skip


class Stopwatch:
    """Seconds and peak resident memory of one step after another."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.records: list[dict[str, Any]] = []

    def time(self, step: str, rows: int, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the work, keep what it cost, and return its result."""
        reset_peak()
        start = time.perf_counter()
        result = work(*arguments)
        seconds = time.perf_counter() - start
        self.records.append(
            {
                "log": self.size,
                "step": step,
                "rows": rows,
                "seconds": seconds,
                "rows/s": rows / seconds,
                "peak GiB": peak_gib(),
            }
        )
        return result


def measure(size: int) -> list[dict[str, Any]]:
    """Every step on a log of this size."""
    watch, random = Stopwatch(size), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        raw, stored = Path(folder) / "ratings.csv", Path(folder) / "interactions.parquet"
        raw_items = write_files(raw, size)
        interactions, items, users = watch.time("raw CSV to canonical tables", size, ingest, raw, raw_items, stored)
    log = watch.time("split and sequences", size, arrange, interactions, items, users)
    del interactions
    embeddings = random.normal(size=(items.height, EMBEDDING_DIM)).astype(np.float32)
    log, samples = log.with_embeddings(embeddings), log.samples
    chosen = samples[np.sort(random.choice(samples.height, min(RETRIEVED_ROWS, samples.height), replace=False))]
    for k in (60, 10):
        window = WindowConfig(kind="retrieved", k=k)
        retrieved = watch.time(f"retrieval, K = {k}", chosen.height, log.histories, chosen, window)
    few = chosen.sample(LOOP_ROWS, seed=0)
    neighbours = sort_neighbours(few["item_index"].to_numpy(), embeddings)  # the loop's preparation, not timed
    loop = watch.time("retrieval, K = 10, plain loop", LOOP_ROWS, loop_over_rows, few, log.sequences, neighbours, 10)
    del neighbours
    place = np.searchsorted(chosen["row"].to_numpy(), few["row"].to_numpy())
    assert np.array_equal(loop, retrieved[place]), "the retriever and the plain loop disagree"
    rows = min(LENS_ROWS, samples.height // 2)
    watch.time("lens epoch (sim, K = 30)", rows, lens_epoch, log, rows)
    return watch.records


def write_files(raw: Path, size: int) -> pl.DataFrame:
    """The raw log as CSV, and the raw items."""
    log = make_log(size)
    log.write_csv(raw)
    return log.select(pl.col("item_id").unique().sort()).with_columns(
        title=pl.format("Title {}", "item_id"), genres=pl.format("Genre {}", pl.col("item_id") % 18)
    )


def read_raw(raw: Path) -> pd.DataFrame:
    """The raw log, loaded as conf/movielens-25m does."""
    dtypes = {"user_id": "Int64", "item_id": "Int64", "rating": "Float64", "timestamp": "Int64"}
    return pd.read_csv(raw, dtype=dtypes, low_memory=False)


def ingest(raw: Path, raw_items: pl.DataFrame, stored: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What the ingestion step does, contract and file included."""
    interactions, items, users, _ = build_canonical_tables(read_raw(raw), raw_items, None, None, INGESTION, LOCAL)
    Interactions.validate(interactions).sink_parquet(stored)
    return interactions.collect(), items, users


def arrange(interactions: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> InteractionLog:
    """What the history step does with the canonical tables."""
    log = build_log(interactions, items, users, history_settings())
    assert isinstance(log, InteractionLog)
    return log


def history_settings(negatives: str = "none") -> HistoryConfig:
    """Those of conf/base, with negatives drawn for each like."""
    settings = (CONF / "parameters_history.yml").read_text().replace("${globals:seed}", "42")
    history = yaml.safe_load(settings)["history"]
    return HistoryConfig.model_validate(history | {"negatives": history["negatives"] | {"kind": negatives}})


def sort_neighbours(targets: np.ndarray, embeddings: np.ndarray) -> dict[int, list[int]]:
    """All items by their cosine with each target item, the most similar first."""
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return {int(item): np.argsort(-(directions @ directions[item])).tolist() for item in np.unique(targets)}


def loop_over_rows(samples: pl.DataFrame, sequences: Sequences, neighbours: dict[int, list[int]], k: int) -> np.ndarray:
    """Retrieval as the public code does it: row by row, walk down the target's neighbours until k were seen before."""
    history = np.full((samples.height, k), -1)
    for row, sample in enumerate(samples.iter_rows(named=True)):
        start, end = sequences.offsets[sample["user_index"]], sample["history_end"]
        seen = sequences.item_index[start:end].tolist()
        places: list[int] = []
        for item in neighbours[sample["item_index"]]:
            if item in seen:
                places.append(start + seen.index(item))
                if len(places) == k:
                    break
        history[row, : len(places)] = sorted(places)
    return history


def lens_epoch(log: InteractionLog, rows: int) -> None:
    """One epoch of the lens of conf/base over so many training rows, and a small validation."""
    settings = yaml.safe_load((CONF / "parameters_lens.yml").read_text())["lens"]
    config = LensConfig.model_validate(settings | {"seed": 0, "max_epochs": 1})
    random = np.random.default_rng(0)
    split = np.full(log.samples.height, "none", dtype=object)
    for name, count in (("train", rows), ("validation", LENS_VALIDATION_ROWS)):
        candidates = log.rows_in(name)
        split[random.choice(candidates, min(count, len(candidates)), replace=False)] = name
    fit_lens(replace(log, samples=log.samples.with_columns(split=pl.Series(split, dtype=pl.String))), config)


def compare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The targets, with what was measured on the largest log."""
    steps = {(record["log"], record["step"]): record for record in records}
    small, large = sorted({record["log"] for record in records})[-2:]

    def whole(size: int, measure: str) -> list[float]:
        return [steps[size, step][measure] for step in ("raw CSV to canonical tables", "split and sequences")]

    def rate(step: str) -> float:
        return steps[large, step]["rows/s"]

    growth = (sum(whole(large, "seconds")) / large) / (sum(whole(small, "seconds")) / small)
    faster = rate("retrieval, K = 10") / rate("retrieval, K = 10, plain loop")
    measured = [
        (f"CSV to sequences, {large:,} rows: seconds", sum(whole(large, "seconds")), "at most 180"),
        ("the same: peak GiB", max(whole(large, "peak GiB")), "at most 8"),
        (f"the same: time per row, times that of {small:,} rows", growth, "at most 1.3"),
        ("retrieval of 100,000 rows, K = 60: seconds", RETRIEVED_ROWS / rate("retrieval, K = 60"), "at most 60"),
        ("retrieval of 100,000 rows, K = 10: seconds", RETRIEVED_ROWS / rate("retrieval, K = 10"), "at most 60"),
        ("retriever against the plain loop: times faster", faster, "at least 100"),
    ]
    return [{"measure": name, "measured": value, "target": target} for name, value, target in measured]


def plot(records: list[dict[str, Any]]) -> go.Figure:
    """Microseconds per row by size of the log, one line per step."""
    figure = go.Figure(
        layout={
            "title": "Cost per row by size of the log",
            "xaxis": {"title": "rows of the log", "type": "log"},
            "yaxis": {"title": "microseconds per row", "type": "log"},
        }
    )
    for step in dict.fromkeys(record["step"] for record in records):
        part = [record for record in records if record["step"] == step]
        figure.add_scatter(
            x=[record["log"] for record in part], y=[1e6 / record["rows/s"] for record in part], name=step
        )
    return figure


def main() -> None:
    """Measure every size in a process of its own, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes of the log, two or more")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    records: list[dict[str, Any]] = []
    for size in tqdm(arguments.rows, desc="logs", disable=None):
        records += run([sys.executable, __file__, "--measure", str(size)])
    publish("histories", {"Steps": records, "Targets": compare(records)}, plot(records))


if __name__ == "__main__":
    main()
