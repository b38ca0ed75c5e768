"""Logs longer than memory: from raw parquet files to samples, part by part, in this process and on Ray; and training.

    make bench-long-logs
    python benchmarks/long_logs.py --rows 1000000 10000000

Seconds and the peak memory of any process, beside DuckDB, which does the same within the same bound of memory. Each
measurement runs in a process of its own; the results of all have to be equal, but of one with drawn negatives. Then the
lens and the retriever of conf/base take some steps of their first epoch, after all that a whole training prepares, and
validate. The largest log takes 15 GB of disk.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from measuring import resident_gib
from results import publish
from running import environment, run
from synthetic_log import EMBEDDING_DIM, INGESTION, conf, history_settings, make_log
from tqdm import tqdm

from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.training import RetrieverTraining
from reclora_kedro.distributed.engine import EngineConfig, connect
from reclora_kedro.distributed.group import Group
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.ingestion.schema import Interactions
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.features import fresh_lens
from reclora_kedro.lens.training import LensTraining, Passes
from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables
from reclora_kedro.progress import Progress

SIZES = (10_000_000, 100_000_000)
MEMORY = 4  # GiB
HERE, ONE, TWO = SYSTEMS = ("this process, 2 threads", "Ray, 1 worker of one thread", "Ray, 2 workers of one thread")
DRAWN = "this process, 2 threads, matched negatives"
PEER = "DuckDB 2.0.1, 2 threads"
ROWS_PER_FILE = 5_000_000
STEPS = ("ingestion", "history")
LEARNERS = ("lens", "retriever")
TRAINING_STEPS = 1_000


def make_raw(rows: int, folder: Path) -> None:
    """Raw parquet files of the benchmarks' log."""
    log = make_log(rows)
    for number, part in enumerate(log.iter_slices(ROWS_PER_FILE)):
        part.write_parquet(folder / f"{number:04}.parquet")


def read_raw(folder: Path) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """The raw log and items."""
    table = pl.scan_parquet(folder)
    items = table.select(pl.col("item_id").unique().sort()).collect(engine="streaming")
    return table, items.with_columns(title=pl.format("Title {}", "item_id"), genres=pl.lit("Drama"))


def measure(raw: Path, folder: Path, system: str) -> dict[str, Any]:
    """What the two steps cost on a system of ours, files and contracts included."""
    engine, workers = settings(), {ONE: 1, TWO: 2}.get(system)
    history = history_settings("matched" if system == DRAWN else "none")
    if workers:
        engine = engine.model_copy(update={"kind": "ray", "workers": workers, "scratch": str(folder)})
    start = time.perf_counter()
    if workers:
        connect(engine)
    seconds = {"start of Ray": time.perf_counter() - start}
    table, raw_items = read_raw(raw)
    with highest(largest_gib, every=0.2) as peak:
        start = time.perf_counter()
        interactions, items, users, _ = build_canonical_tables(table, raw_items, None, None, INGESTION, engine)
        Interactions.validate(interactions).sink_parquet(folder / "interactions.parquet")
        del interactions
        seconds["ingestion"], start = time.perf_counter() - start, time.perf_counter()
        stored = pl.scan_parquet(folder / "interactions.parquet")
        build_log(stored, items, users, history, engine).save(folder)
        seconds["history"] = time.perf_counter() - start
    samples = InteractionLog.load(folder).samples
    digest = [samples.height, int(samples["event"].sum()), int(samples["history_end"].sum())]
    return {"seconds": seconds, "peak GiB": peak[0], "samples": digest, "rows": samples.hash_rows().sum()}


def learn(folder: Path, learner: str, steps: int) -> dict[str, Any]:
    """What some steps of a learner's first epoch cost, after the preparation of all, with a validation; one thread."""
    torch.set_num_threads(1)
    with highest(resident_gib, every=0.05) as peak:
        start = time.process_time()
        log = InteractionLog.load(folder)
        random = np.random.default_rng(0)
        log = log.with_embeddings(random.normal(size=(log.items.height, EMBEDDING_DIM)).astype(np.float32))
        rows, seconds = (lens_steps if learner == "lens" else retriever_steps)(log, steps)
        everything = time.process_time() - start
    return {
        "learner": learner,
        "rows": rows,
        "preparation and validation, CPU s": everything - seconds,
        "rows/s": rows / seconds,
        "peak GiB": peak[0],
        "peak GiB of mapped files": peak[1],
    }


def lens_steps(log: InteractionLog, steps: int) -> tuple[int, float]:
    """Train the lens for some steps, and validate; return the rows of the steps, and their CPU seconds."""
    config = LensConfig.model_validate(conf("lens", "lens") | {"device": "cpu"})
    trained = []

    class FewSteps(LensTraining):
        def epoch(self, shuffled: np.ndarray, progress: Progress) -> float:
            start, some = time.process_time(), shuffled[: steps * config.batch_size]
            loss = super().epoch(some, progress)
            trained.append((len(some), time.process_time() - start))
            return loss

    lens, loader = fresh_lens(log, config)
    FewSteps(lens, loader, config.learning_rate, Group()).run(Passes(log.rows_in("train"), 1), 1)
    return trained[0]


def retriever_steps(log: InteractionLog, steps: int) -> tuple[int, float]:
    """Train the retriever likewise; return the events that were predicted, and the CPU seconds, validation included."""
    config = RetrieverConfig.model_validate(conf("candidates", "retriever") | {"device": "cpu"})
    training = RetrieverTraining(log, config, Group())
    windows = training.windows
    drawn = np.random.default_rng(0).permutation(len(windows.first))[: steps * config.batch_size]
    training.windows = replace(windows, first=windows.first[drawn], last=windows.last[drawn])
    start, events = time.process_time(), int(training.windows.targets.sum())
    with Progress("retriever", events, "events") as progress:
        training.epoch(progress)
    return events, time.process_time() - start


@contextmanager
def highest(read: Callable[[], Sequence[float]], every: float) -> Iterator[list[float]]:
    """The highest of each value that a function reads, every so many seconds, while the work is done."""
    peak, done = [*read()], threading.Event()

    def watch() -> None:
        while not done.wait(every):
            peak[:] = map(max, peak, read())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def settings() -> EngineConfig:
    """The engine of conf/base, without what an environment interpolates."""
    return EngineConfig.model_validate(conf("engine", "engine"))


def largest_gib() -> tuple[float]:
    """The resident memory, in GiB, of this process or of the worker that has most."""
    import psutil

    own, most = psutil.Process(), 0.0
    for each in [own, *own.children(recursive=True)]:
        try:
            if each == own or each.name().startswith("ray::"):
                most = max(most, each.memory_info().rss / 2**30)
        except psutil.Error:
            pass
    return (most,)


def measure_all(sizes: list[int], steps: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One record per size and system, and one per size and learner."""
    records, learned = [], []
    for size in tqdm(sizes, desc="logs", disable=None):
        with TemporaryDirectory() as place:
            raw = Path(place) / "raw"
            raw.mkdir()
            run([sys.executable, __file__, "--make", str(size), "--raw", str(raw)], threads=2)
            for system in (*SYSTEMS, DRAWN, PEER):
                with TemporaryDirectory(dir=place) as folder:
                    measured = run(command(raw, folder, system), threads=1 if system == ONE else 2)
                    for learner in LEARNERS if system == HERE else ():
                        choice = ["--learn", learner, "--folder", folder, "--steps", str(steps)]
                        learned.append({"log": size} | run([sys.executable, __file__, *choice], threads=1))
                seconds = measured["seconds"]
                work = sum(each for step, each in seconds.items() if step != "start of Ray")
                records.append(
                    {
                        "log": size,
                        "system": system,
                        **{step: seconds.get(step) for step in (*STEPS, "start of Ray")},
                        "seconds": work,
                        "µs per row": 1e6 * work / size,
                        "peak GiB": measured["peak GiB"],
                        "samples": measured["samples"],
                        "digest": measured.get("rows"),
                    }
                )
                tqdm.write(f"{size:,} rows, {system}: {work:.0f} s", file=sys.stderr)
    return records, learned


def command(raw: Path, folder: str, system: str) -> list[str]:
    """The process that measures a system; the peer installs itself."""
    if system == PEER:
        requirement = PEER.split(",")[0].lower().replace(" ", "==")
        python = str(environment("duckdb", requirement))
        return [python, "-m", "peers.duckdb_log", str(raw), folder, f"{MEMORY}GiB", "2"]
    places = ["--raw", str(raw), "--folder", folder]
    return [sys.executable, __file__, "--system", system, *places]


def compare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of times, and whether all systems end with the same samples."""
    by = {(record["log"], record["system"]): record for record in records}
    small, large = (f(record["log"] for record in records) for f in (min, max))
    name = f"history of {large:,} rows: one worker's seconds / two workers'"
    table = {name: (by[large, ONE], by[large, TWO], "history")}
    for system in (HERE, TWO, DRAWN):
        name = f"{system}: time per row of {large:,} rows / of {small:,} rows"
        table[name] = by[large, system], by[small, system], "µs per row"
    for system in (HERE, TWO):
        table[f"{system}: seconds of {PEER} / its own, {large:,} rows"] = by[large, PEER], by[large, system], "seconds"
    compared = [{"measure": name, "measured": one[key] / other[key]} for name, (one, other, key) in table.items()]
    for size in sorted({record["log"] for record in records}):
        same = [record for record in records if record["log"] == size and record["system"] != DRAWN]
        digests = {record["digest"] for record in same if record["system"] != PEER}
        counts = {str(record["samples"]) for record in same}
        compared.append({"measure": f"different samples of {size:,} rows among ours", "measured": len(digests)})
        name = f"different numbers of samples, events and histories of {size:,} rows"
        compared.append({"measure": name, "measured": len(counts)})
    return compared


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes of the log, two or more")
    parser.add_argument("--steps", type=int, default=TRAINING_STEPS, help="of each learner's first epoch")
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--learn", choices=LEARNERS, help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_raw(arguments.make, arguments.raw)
        print(json.dumps(arguments.make))
    elif arguments.system is not None:
        print(json.dumps(measure(arguments.raw, arguments.folder, arguments.system)))
    elif arguments.learn is not None:
        print(json.dumps(learn(arguments.folder, arguments.learn, arguments.steps)))
    else:
        records, learned = measure_all(list(arguments.rows), arguments.steps)
        shown = [
            {name: value for name, value in record.items() if name not in ("samples", "digest")} for record in records
        ]
        figure = go.Figure(layout={"yaxis_title": "microseconds per row", "barmode": "group"})
        for system in (*SYSTEMS, DRAWN, PEER):
            part = [record for record in records if record["system"] == system]
            figure.add_bar(
                x=[f"{record['log']:,} rows" for record in part],
                y=[record["µs per row"] for record in part],
                name=system,
            )
        publish("long_logs", {"Seconds": shown, "Training": learned, "Ratios": compare(records)}, figure)


if __name__ == "__main__":
    main()
