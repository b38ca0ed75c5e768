"""The DIN lens against two public DINs, and the cost of a lens by the length of its history.

    make bench-lens
    python benchmarks/lens.py --epochs 1 --repetitions 1 --rows 2000 --log 1000000

Peers: MovieLens-100K, the same rows, inputs, sizes, optimiser and batches for all. Lengths: rows of a synthetic log
with at least 1,000 earlier events each. Every measurement runs in a process of its own, the peers' in `.venv-peers`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from histories import history_settings
from measuring import peak_gib, reset_peak
from plotly.subplots import make_subplots
from results import publish
from running import BENCHMARKS, ROOT, Project, open_project, run
from synthetic_log import make_log
from tqdm import tqdm

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.retrieval import WindowConfig, recent_events
from reclora_kedro.ingestion.cleaning import clean_interactions
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.entities import describe_users
from reclora_kedro.ingestion.events import EVENT_KEY
from reclora_kedro.lens import training
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import lens_states

PEERS_VENV = ROOT / ".venv-peers" / "click_models"
OURS = "reclora-kedro"
PEERS = {"DeepCTR-Torch 0.3.0": "peers.deepctr_din", "FuxiCTR 2.3.10": "peers.fuxictr_din"}
SPEED_TARGETS = {"DeepCTR-Torch 0.3.0": 2.0, "FuxiCTR 2.3.10": 1.5}
AUC_TARGET = -0.002
USER_FIELDS = ("age", "gender", "occupation")
LENGTHS = (10, 60, 200, 1_000)
LIFELONG = "lifelong"
LONG_LENSES = {"sim": "retrieved", "twin": "recent"}
GROWTH_TARGETS = {("twin", 1_000): "at most 2"}
EMBEDDING_DIM = 64


def save_log(log: InteractionLog, folder: Path) -> None:
    """Keep the log, with its item embeddings, in a folder."""
    log.save(folder)
    assert log.item_embeddings is not None
    np.save(folder / "item_embeddings.npy", log.item_embeddings)


def load_log(folder: Path) -> InteractionLog:
    """What `save_log` has kept."""
    return InteractionLog.load(folder).with_embeddings(np.load(folder / "item_embeddings.npy"))


def movielens(project: Project) -> InteractionLog:
    """MovieLens-100K with the inputs that all systems take: no item fields, no zip codes, no ratings in the history."""
    history = project.parameters["history"]
    ingestion = project.parameters["ingestion"]
    report = CleaningReport()
    interactions = clean_interactions(project.load("raw_interactions"), ingestion, report)
    users = describe_users(project.load("raw_users"), interactions, ingestion.users, report)
    users = users.select("user_id", *USER_FIELDS)
    items = interactions.select(pl.col("item_id").unique().sort()).collect()
    log = build_log(interactions, items, users, history)
    assert isinstance(log, InteractionLog)
    unrated = replace(log.sequences, rating_level=np.zeros_like(log.sequences.rating_level))
    return replace(log, sequences=unrated, item_embeddings=np.zeros((items.height, 1)))


def save_for_peers(log: InteractionLog, recent_length: int, folder: Path) -> None:
    """Ready-made arrays of every split, histories included, and each input's number of codes; code 0 is padding."""
    fields = log.users.select(pl.col(*USER_FIELDS).rank("dense"))
    codes = log.samples.select(
        "split",
        "label",
        "row",
        user_id=pl.col("user_index") + 1,
        item_id=pl.col("item_index") + 1,
        **{name: fields[name].gather(log.samples["user_index"]) for name in USER_FIELDS},
    )
    vocabulary = {name: 1 + int(codes[name].to_numpy().max()) for name in ("user_id", *USER_FIELDS, "item_id")}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    for split in ("train", "validation"):
        rows = codes.filter(pl.col("split") == split)
        events = recent_events(log.samples[rows["row"]], log.sequences, recent_length)
        arrays = {name: rows[name].cast(pl.Int64).to_numpy() for name in (*vocabulary, "label")}
        history = np.where(events >= 0, log.sequences.item_index[events] + 1, 0)
        arrays |= {"hist_item_id": history, "history_length": (events >= 0).sum(axis=1)}
        np.savez(folder / f"{split}.npz", allow_pickle=False, **arrays)


def compare_peers(project: Project, epochs: int, repetitions: int, threads: int) -> dict[str, list[dict[str, Any]]]:
    """Every system's training records, one per repetition; the order of the systems alternates."""
    config = project.parameters["lens"].model_copy(
        update={
            "model": "din", "recent_length": 30, "embedding_dim": 16, "hidden_dim": 128,
            "dropout": 0.0, "user_id_dropout": 0.0, "item_id_dropout": 0.0, "field_min_count": 1,
            "learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 256, "max_epochs": epochs, "patience": epochs,
            "device": "cpu",
        }
    )  # fmt: skip
    make_peers_venv()
    log = movielens(project)
    train_rows = log.samples["split"].eq("train").sum()
    commands = {OURS: [sys.executable, __file__, "--measure"]}
    commands |= {name: [str(PEERS_VENV / "bin" / "python"), "-m", module] for name, module in PEERS.items()}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_log(log, folder)
        start = time.perf_counter()
        save_for_peers(log, config.recent_length, folder)
        peers_arrays = time.perf_counter() - start
        for repetition in tqdm(range(repetitions), desc="peers", disable=None):
            (folder / "lens.json").write_text(config.model_copy(update={"seed": repetition}).model_dump_json())
            for name in list(commands)[:: 1 if repetition % 2 == 0 else -1]:
                record = run([*commands[name], str(folder)], threads)
                record["preparation"] += peers_arrays if name in PEERS else 0
                records[name].append(record | {"train_rows": train_rows})
    return records


def make_peers_venv() -> None:
    """The peers' environment: their requirements, and the project's own versions of what both use."""
    uv = ROOT / ".venv" / "bin" / "uv"
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, PEERS_VENV], check=True)
    requirements = ["-r", str(BENCHMARKS / "peers" / "requirements.txt"), "-c", str(ROOT / "requirements.lock")]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", PEERS_VENV, *requirements], check=True)


def measure(folder: Path) -> dict[str, Any]:
    """Train the folder's lens on the folder's rows, then score its test rows."""
    log = load_log(folder)
    config = LensConfig.model_validate_json((folder / "lens.json").read_text())
    spans: list[tuple[float, float]] = []
    train_epoch = training.LensTraining.epoch

    def timed_epoch(*arguments: Any) -> float:
        start = time.perf_counter()
        loss = train_epoch(*arguments)
        spans.append((start, time.perf_counter()))
        return loss

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # the first one imports for seconds, as the peers' does
    start = time.perf_counter()
    with mock.patch.object(training.LensTraining, "epoch", timed_epoch):
        lens, training_log = training.fit_lens(log, config)
    peak = peak_gib()
    record = {
        "preparation": spans[0][0] - start,
        "epochs": [end - begin for begin, end in spans],
        "auc": training_log["validation_auc"].max(),
        "GiB": peak,
    }
    reset_peak()
    test = log.rows_in("test")
    seconds = []
    for _ in spans:
        start = time.perf_counter()
        lens_states(lens, log, log.samples[test])
        seconds.append(time.perf_counter() - start)
    return record | {"test": median(seconds), "test GiB": peak_gib()}


def peer_tables(records: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Medians of every system, and ours against each peer."""
    systems = []
    for name, runs in records.items():
        seconds = median(epoch for run in runs for epoch in run["epochs"])
        medians = {key: median(run[key] for run in runs) for key in ("preparation", "auc", "GiB", "train_rows")}
        systems.append(
            {
                "system": name,
                "training rows/s": medians["train_rows"] / seconds,
                "seconds per epoch": seconds,
                "seconds of preparation": medians["preparation"],
                "validation AUC": f"{medians['auc']:.4f}",
                "peak GiB": medians["GiB"],
            }
        )
    ours, *peers = systems
    ratios = [
        {
            "ours against": peer["system"],
            "speed ratio": f"{ours['training rows/s'] / peer['training rows/s']:.2f}",
            "target": f"at least {SPEED_TARGETS[peer['system']]}",
            "AUC difference": f"{float(ours['validation AUC']) - float(peer['validation AUC']):+.4f}",
            "AUC target": f"at least {AUC_TARGET}",
            "peak memory ratio": f"{ours['peak GiB'] / peer['peak GiB']:.2f}",
        }
        for peer in peers
    ]
    return {
        "DIN on MovieLens-100K (ours also pools the history's mean)": systems,
        "Ours against the peers": ratios,
    }


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
                "target": GROWTH_TARGETS.get((record["lens"], record["K"]), ""),
            }
        )
    return table


def plot(peers: Sequence[Mapping[str, Any]], lengths: list[dict[str, Any]]) -> go.Figure:
    """Rows per second of every system, and microseconds per training row by history length."""
    figure = make_subplots(cols=2, subplot_titles=("DIN on MovieLens-100K", "Cost per training row by history length"))
    figure.add_bar(
        x=[peer["system"] for peer in peers], y=[peer["training rows/s"] for peer in peers], showlegend=False
    )
    for lens in LONG_LENSES:
        part = [record for record in lengths if record["lens"] == lens]
        y = [1e6 * record["epoch"] / record["rows"] for record in part]
        figure.add_scatter(x=[record["k"] for record in part], y=y, name=lens, row=1, col=2)
    figure.update_yaxes(title="training rows per second", rangemode="tozero", col=1)
    figure.update_yaxes(title="microseconds per row", type="log", col=2)
    figure.update_xaxes(title="K, most events of the long history", type="log", col=2)
    return figure


def main() -> None:
    """Measure both, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose data and lens are used")
    parser.add_argument("--epochs", type=int, default=3, help="of each system")
    parser.add_argument("--repetitions", type=int, default=3, help="of each system, with a seed each")
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
    peers = peer_tables(compare_peers(project, arguments.epochs, arguments.repetitions, arguments.threads))
    lengths = compare_lengths(project, arguments.epochs, arguments.log, arguments.rows, arguments.threads)
    systems = next(iter(peers.values()))
    publish("lens", peers | {"Cost by history length": length_table(lengths)}, plot(systems, lengths))


if __name__ == "__main__":
    main()
