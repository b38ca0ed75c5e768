"""The cost of a lens by the length of its history.

    make bench-lens
    python benchmarks/lens.py --epochs 1 --rows 2000 --log 1000000

Rows of a synthetic log with at least 1,000 earlier events each. Every measurement runs in a process of its own.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from measuring import peak_gib, reset_peak
from results import publish, timed
from running import Project, open_project, run
from synthetic_log import EMBEDDING_DIM, history_settings, make_log
from tqdm import tqdm

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.ingestion.events import EVENT_KEY
from reclora_kedro.lens import training
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import lens_states

LENGTHS = (10, 60, 200, 1_000)
LIFELONG = "lifelong"
LONG_LENSES = {"sim": "retrieved", "twin": "recent"}


def save_log(log: InteractionLog, folder: Path) -> None:
    """Keep the log, with its item embeddings, in a folder."""
    log.save(folder)
    assert log.item_embeddings is not None
    np.save(folder / "item_embeddings.npy", log.item_embeddings)


def load_log(folder: Path) -> InteractionLog:
    """What `save_log` has kept."""
    return InteractionLog.load(folder).with_embeddings(np.load(folder / "item_embeddings.npy"))


def measure(folder: Path) -> dict[str, Any]:
    """Train the folder's lens on the folder's rows, then score its test rows."""
    log = load_log(folder)
    config = LensConfig.model_validate_json((folder / "lens.json").read_text())
    epochs: list[float] = []
    train_epoch = training.LensTraining.epoch

    def timed_epoch(*arguments: Any) -> float:
        loss, seconds = timed(train_epoch, *arguments)
        epochs.append(seconds)
        return loss

    with mock.patch.object(training.LensTraining, "epoch", timed_epoch):
        lens, _ = training.fit_lens(log, config)
    record = {"epochs": epochs, "GiB": peak_gib()}
    reset_peak()
    test = log.rows_in("test")
    seconds = [timed(lens_states, lens, log, log.samples[test])[1] for _ in epochs]
    return record | {"test": median(seconds), "test GiB": peak_gib()}


def long_data(log_rows: int, rows: int) -> InteractionLog:
    """So many training rows, and half as many to validate and to test, all with histories of at least `LENGTHS[-1]`."""
    interactions = make_log(log_rows).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    users, items = (interactions.select(pl.col(f"{entity}_id").unique().sort()) for entity in ("user", "item"))
    history = history_settings().model_copy(update={"min_history": LENGTHS[-1]})
    log = build_log(interactions.sort(EVENT_KEY), items, users, history)
    assert isinstance(log, InteractionLog)
    samples = log.samples
    earlier = samples["history_end"].to_numpy() - log.sequences.offsets[samples["user_index"].to_numpy()]
    random = np.random.default_rng(0)
    long = random.permutation(np.flatnonzero(earlier >= LENGTHS[-1]))
    if len(long) < 2 * rows:
        sys.exit(
            f"{len(long)} rows have {LENGTHS[-1]} earlier events, {2 * rows} are needed: raise --log, lower --rows"
        )
    split = np.full(samples.height, "unused", dtype=object)
    split[long[:rows]] = "train"
    split[long[rows : rows + rows // 2]] = "validation"
    split[long[rows + rows // 2 : 2 * rows]] = "test"
    embeddings = random.normal(size=(items.height, EMBEDDING_DIM)).astype(np.float32)
    samples = samples.with_columns(split=pl.Series(split, dtype=pl.String))
    return replace(log, samples=samples, item_embeddings=embeddings)


def compare_lengths(project: Project, epochs: int, log_rows: int, rows: int, threads: int) -> list[dict[str, Any]]:
    """Epochs, and as many test passes, of each long-history lens at each length, in a process each."""
    log = long_data(log_rows, rows)
    longest = int(np.diff(log.sequences.offsets).max())
    records = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_log(log, folder)
        del log
        runs = [(lens, k) for lens in LONG_LENSES for k in (*LENGTHS, LIFELONG)]
        for lens, k in tqdm(runs, desc="history lengths", disable=None):
            window = WindowConfig.model_validate({"kind": LONG_LENSES[lens], "k": longest if k == LIFELONG else k})
            changes = {"model": lens, "long_history": window, "device": "cpu", "max_epochs": epochs, "patience": epochs}
            config = project.parameters["lens"].model_copy(update=changes)
            (folder / "lens.json").write_text(config.model_dump_json())
            record = run([sys.executable, __file__, "--measure", str(folder)], threads)
            record["epoch"] = median(record["epochs"])
            records.append({"lens": lens, "K": k, "rows": rows, "k": window.k, **record})
    return records


def length_table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Speed, seconds (medians) and memory by lens and length, and growth of the seconds since K = 60."""
    table = []
    base = {record["lens"]: record for record in records if record["K"] == 60}
    for record in records:
        since = base[record["lens"]]
        table.append(
            {
                "lens": record["lens"],
                "K, events": f"{record['k']:,}" + (f" ({LIFELONG})" if record["K"] == LIFELONG else ""),
                "epoch rows/s": record["rows"] / record["epoch"],
                "epoch s": record["epoch"],
                "peak GiB": record["GiB"],
                "growth": f"{record['epoch'] / since['epoch']:.2f}",
                "test rows/s": record["rows"] / 2 / record["test"],
                "test s": record["test"],
                "test peak GiB": record["test GiB"],
                "test growth": f"{record['test'] / since['test']:.2f}",
            }
        )
    return table


def plot(lengths: list[dict[str, Any]]) -> go.Figure:
    """Microseconds per training row by history length."""
    figure = go.Figure(layout={"title": "Cost per training row by history length"})
    for lens in LONG_LENSES:
        part = [record for record in lengths if record["lens"] == lens]
        y = [1e6 * record["epoch"] / record["rows"] for record in part]
        figure.add_scatter(x=[record["k"] for record in part], y=y, name=lens)
    figure.update_yaxes(title="microseconds per row", type="log")
    return figure.update_xaxes(title="K, most events of the long history", type="log")


def main() -> None:
    """Measure, then show and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose lens is used")
    parser.add_argument("--epochs", type=int, default=3, help="of each lens")
    parser.add_argument("--threads", type=int, default=2, help="of every measuring process")
    parser.add_argument("--log", type=int, default=2_000_000, help="rows of the synthetic log")
    parser.add_argument("--rows", type=int, default=10_000, help="training rows at each history length")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    torch.set_num_threads(arguments.threads)  # what the results name
    project = open_project(arguments.env)
    lengths = compare_lengths(project, arguments.epochs, arguments.log, arguments.rows, arguments.threads)
    publish("lens", {"Cost by history length": length_table(lengths)}, plot(lengths))


if __name__ == "__main__":
    main()
