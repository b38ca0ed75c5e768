"""The heavy steps on Ray: two workers against one, against this process, and what becomes of them when workers die.

    make bench-ray
    python benchmarks/cluster.py --rows 200 --faults 2

It reads what the default run has left: the log, the lens's settings and the prompts. Every measurement runs in a
process of its own; the start of Ray is measured apart. Faults: while a step runs on a cluster of three nodes, a worker
is killed or a node removed at a random moment; the step has to end with the same result. Ingestion and history of long
logs are measured by benchmarks/long_logs.py; their faults are here.
"""

import argparse
import atexit
import json
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from results import publish
from running import open_project, run
from tqdm import tqdm

from histories import INGESTION
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, connect

STEPS = ("LLM scoring", "lens training")
LONG_LOG = "ingestion and history"
LOG_ROWS = 1_000_000
TARGETS = {"LLM scoring": "at least 1.7", "lens training": "at least 1.5"}
LOCAL_TARGET = "at most 1.15"
TOLERANCE = 1e-5


def engine(workers: int) -> EngineConfig:
    """Workers of one thread each; none: this process."""
    if not workers:
        return LOCAL
    return LOCAL.model_copy(update={"kind": "ray", "workers": workers, "rows_per_shard": 125})


def work(step: str, rows: int) -> Callable[[EngineConfig], np.ndarray]:
    """A step on what the default run left, or on a synthetic log: what it gives on an engine, as numbers."""
    if step == LONG_LOG:
        return work_on_long_log()
    project = open_project()
    log, parameters = project.load("log"), project.parameters
    if step == "lens training":
        from reclora_kedro.lens.training import fit_lens

        embedded = log.with_embeddings(project.load("item_embeddings")["embeddings"])
        config = parameters["lens"].model_copy(update={"batch_parts": 2, "max_epochs": 2, "device": "cpu"})
        return lambda where: fit_lens(embedded, config, where)[1]["validation_auc"].to_numpy()
    from reclora_kedro.llm.answer_model import AnswerModel
    from reclora_kedro.llm.prompt_set import prompt_set
    from reclora_kedro.llm.prompts import prompt_format

    llm, prompts = project.load("base_llm"), prompt_set(project.load("recent.prompts"), "test")
    prompts = prompts.take(np.resize(np.arange(len(prompts.labels)), rows))
    model = AnswerModel(llm, prompt_format(llm.tokenizer, parameters["prompt"]))
    budget = parameters["scoring"].tokens_per_batch
    return lambda where: replace(model, engine=where).all_llm_logits(prompts, budget, "score")


def work_on_long_log() -> Callable[[EngineConfig], np.ndarray]:
    """Ingestion and history in ten parts: the samples, as numbers."""
    from long_logs import history_settings, make_raw, read_raw

    from reclora_kedro.pipelines.history.nodes import build_log
    from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables

    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    make_raw(LOG_ROWS, folder)
    table, raw_items = read_raw(folder)

    def samples(where: EngineConfig) -> np.ndarray:
        where = where.model_copy(update={"rows_per_part": LOG_ROWS // 10})
        interactions, *tables, _ = build_canonical_tables(table, raw_items, None, None, INGESTION, where)
        log = build_log(interactions, *tables, history_settings(), where)
        return pl.scan_parquet(log.samples).select(pl.col(pl.Int64)).collect().to_numpy()

    return samples


def measure(step: str, workers: int, rows: int) -> dict[str, Any]:
    """Seconds of one step on an engine, and of the start of Ray before it."""
    call, where = work(step, rows), engine(workers)
    start = time.perf_counter()
    if workers:
        connect(where)
    started = time.perf_counter()
    call(where)
    return {"seconds": time.perf_counter() - started, "start of Ray": started - start}


def compare(rows: int, repetitions: int) -> dict[str, list[dict[str, Any]]]:
    """Medians of every step on one worker, on two, and for scoring in this process with two threads."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    kinds = [(step, workers) for step in STEPS for workers in (1, 2)] + [("LLM scoring", 0)]
    for repetition in tqdm(range(repetitions), desc="steps", disable=None):
        for step, workers in kinds[:: 1 if repetition % 2 == 0 else -1]:
            command = [sys.executable, __file__, "--measure", step, "--workers", str(workers), "--rows", str(rows)]
            runs.setdefault((step, workers), []).append(run(command, threads=1 if workers else 2))
    seconds = {kind: median(each["seconds"] for each in runs[kind]) for kind in kinds}
    table = [
        {
            "step": step,
            "on": f"Ray, {workers} worker{'s' * (workers > 1)} of one thread" if workers else "this process, 2 threads",
            "seconds": seconds[step, workers],
            "start of Ray": median(each["start of Ray"] for each in runs[step, workers]),
        }
        for step, workers in kinds
    ]
    ratios = [
        {
            "comparison": f"{step}: one worker's seconds / two workers'",
            "ratio": f"{seconds[step, 1] / seconds[step, 2]:.2f}",
            "target": TARGETS[step],
        }
        for step in STEPS
    ]
    ratios.append(
        {
            "comparison": f"LLM scoring of {rows:,} rows: two workers' seconds / those of two threads of one process",
            "ratio": f"{seconds['LLM scoring', 2] / seconds['LLM scoring', 0]:.2f}",
            "target": LOCAL_TARGET,
        }
    )
    return {"Seconds": table, "Ratios": ratios}


def count_faults(trials: int, rows: int) -> list[dict[str, Any]]:
    """How a step ends whose workers are killed, or whose node is removed, at a random moment."""
    import ray
    from ray.cluster_utils import Cluster

    table, drawn = [], random.Random(0)
    for step in (LONG_LOG, *STEPS):
        call = work(step, rows)
        expected, seconds = None, 0.0
        for fault in ("none", "a worker is killed", "a node is removed"):
            outcomes: Counter[str] = Counter()
            for _ in tqdm(range(trials if expected is not None else 1), desc=f"{step}: {fault}", disable=None):
                cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
                cluster.add_node(num_cpus=1)
                spare = cluster.add_node(num_cpus=1)
                where = engine(2).model_copy(update={"address": cluster.address})
                connect(where)
                struck: list[str] = []
                moment = drawn.uniform(0, seconds)
                timer = threading.Timer(moment, partial(_strike, fault, cluster, spare, struck))
                timer.start()
                start = time.perf_counter()
                try:
                    found = call(where)
                    if expected is None:
                        expected, seconds = found, time.perf_counter() - start
                    same = np.allclose(found, expected, rtol=0, atol=TOLERANCE)
                    missed = "" if fault in struck or fault == "none" else ", as no worker was there to kill"
                    outcomes[f"the same result{missed}" if same else "another result"] += 1
                except Exception as error:
                    outcomes[f"{type(error).__name__}: {str(error)[:80]}"] += 1
                finally:
                    timer.cancel()
                    ray.shutdown()
                    cluster.shutdown()
            tqdm.write(f"{step}, {fault}: {dict(outcomes)}", file=sys.stderr)
            table += [{"step": step, "fault": fault, "end": end, "trials": count} for end, count in outcomes.items()]
    return table


def _strike(fault: str, cluster: Any, node: Any, struck: list[str]) -> None:
    """Do the harm, and note it: kill one process that works, or take a node away."""
    import psutil

    if fault == "a node is removed":
        cluster.remove_node(node, allow_graceful=False)
        struck.append(fault)
    elif fault == "a worker is killed":
        names = ("ray::MapWorker", "ray::MapBatches", "ray::RayTrainWorker")
        working = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "".join(process.info["cmdline"] or []).startswith(names)
        ]
        if working:
            random.choice(working).kill()
            struck.append(fault)


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000, help="prompts that are scored")
    parser.add_argument("--repetitions", type=int, default=3, help="of every measurement")
    parser.add_argument("--faults", type=int, default=10, help="trials per step and fault")
    parser.add_argument("--measure", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.workers, arguments.rows)))
        return
    tables = compare(arguments.rows, arguments.repetitions) if arguments.repetitions else {}
    if arguments.faults:
        tables["Faults"] = count_faults(arguments.faults, min(arguments.rows, 200))
    rows = tables.get("Seconds", [])
    figure = go.Figure(go.Bar(x=[f"{row['step']}<br>{row['on']}" for row in rows], y=[row["seconds"] for row in rows]))
    publish("ray", tables, figure.update_layout(yaxis_title="seconds"))


if __name__ == "__main__":
    main()
