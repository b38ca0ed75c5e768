"""The heavy steps on Ray: two workers against one, against this process, and what becomes of them when workers die.

    make bench-ray
    python benchmarks/cluster.py --rows 200 --faults 2
    python benchmarks/cluster.py --project PROJECT --faults 0

With the folder of a project that `make bench-scale` leaves, the steps are the choice of the method and everyone's
lists. Else it reads what the default run has left: the log, the lens's settings and the prompts; the lens trains on
batches of a size that suits long logs. Every measurement runs in a process of its own; the start of Ray is measured
apart; that of a step's workers is part of the step. Faults: while a step runs on a cluster of three nodes, a worker is
killed or a node removed at a random moment; the step has to end with the same result. The process that asks for a
scoring is killed, too: the next one has to end it with the shards that are left.
Ingestion and history of long logs are measured by benchmarks/long_logs.py; their faults are here.
"""

import argparse
import atexit
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from results import publish
from running import Project, open_project, run
from synthetic_log import INGESTION, history_settings
from tqdm import tqdm

from reclora_kedro.distributed.checkpoints import FinishedShards
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, connect, map_shards

STEPS = ("LLM scoring", "lens training")
CHOICE, LISTS = RECOMMENDATION = ("choice of the method", "everyone's lists")
LONG_LOG = "ingestion and history"
FINETUNING = "fine-tuning"
RESUMED = "resumed scoring"
STRUCK = (LONG_LOG, *STEPS, FINETUNING, RESUMED)
LOG_ROWS = 1_000_000
ROWS_PER_SHARD = 125
RESUMED_SHARD = 20  # rows of a shard of a scoring that is killed
FEW_SHOT, VALIDATION, CHECKPOINT = 64, 40, 16  # rows that are tuned on, that validate, and between two checkpoints
TOLERANCE = 1e-5
LENS = {"batch_size": 4096, "batch_parts": 2, "patience": 20, "device": "cpu"}


def engine(workers: int) -> EngineConfig:
    """Workers of one thread each; none: this process."""
    if not workers:
        return LOCAL
    return LOCAL.model_copy(update={"kind": "ray", "workers": workers, "rows_per_shard": ROWS_PER_SHARD})


def recommending(step: str, folder: Path) -> Callable[[EngineConfig], pl.DataFrame]:
    """The choice of the method, or everyone's lists by it, in the project of a large log."""
    from reclora_kedro.pipelines.recommendation import nodes

    project = open_project("scale", folder)
    given = {name: project.load(name) for name in ("lens", "log")} | {"config": project.parameters["recommendation"]}
    if step == CHOICE:
        sources = {name: project.parameters[name] for name in given["config"].sources}
        given |= {"bootstrap": project.parameters["bootstrap"], "candidate_choice_before": None} | sources
        return lambda where: pl.DataFrame(nodes.choose_method(**given, engine=in_shards(where))[1])
    given |= {"recommendation_candidates": None, "candidate_choice": project.load("candidate_choice")}
    return lambda where: nodes.shortlist_candidates(**given, engine=in_shards(where))[0].select(pl.col(pl.Int32))


def in_shards(where: EngineConfig) -> EngineConfig:
    return where.model_copy(update={"rows_per_shard": 1024})


def work(step: str, rows: int, epochs: int, folder: Path | None = None) -> Callable[[EngineConfig], pl.DataFrame]:
    """A step on what the default run left, or on a synthetic log: what it gives on an engine."""
    if folder is not None:
        return recommending(step, folder)
    if step == LONG_LOG:
        return work_on_long_log()
    project = open_project()
    log, parameters = project.load("log"), project.parameters
    if step == "lens training":
        from reclora_kedro.lens.training import fit_lens

        config = parameters["lens"].model_copy(update=LENS | {"max_epochs": epochs})
        return lambda where: fit_lens(log, config, where)[1]
    if step == FINETUNING:
        return fine_tuning(project)
    return scoring(project, rows)


def scoring(
    project: Project, rows: int, finished: FinishedShards | None = None
) -> Callable[[EngineConfig], pl.DataFrame]:
    """Scoring of so many prompts by the base LLM: their logits."""
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.llm.prompt_set import prompt_set

    llm, prompts = project.load("base_llm"), prompt_set(project.load("test.recent.prompts"), "test")
    prompts = prompts.take(np.resize(np.arange(len(prompts.labels)), rows))
    model = replace(answering_model(llm, project.parameters["prompt"]), finished=finished)
    budget = project.parameters["scoring"].tokens_per_batch
    return lambda where: pl.DataFrame({"logit": replace(model, engine=where).all_llm_logits(prompts, budget, "score")})


def fine_tuning(project: Project) -> Callable[[EngineConfig], pl.DataFrame]:
    """Training of the default run's adapter on a few of its rows, with checkpoints: its log."""
    from reclora_kedro.distributed.checkpoints import CheckpointStore
    from reclora_kedro.pipelines.finetuning.nodes import train_adapter

    prompts, states = map(project.load, ("learning.recent.prompts", "learning_states"))
    counts = {"few_shot": FEW_SHOT, "validation": VALIDATION}
    few = pl.concat([prompts.filter(use=use).head(count) for use, count in counts.items()])
    variant = project.parameters["finetuning"]["variants"]["reclora"]
    training = variant.training.model_copy(
        update={"rows_per_checkpoint": CHECKPOINT, "rows_per_validation": FEW_SHOT // 2}
    )
    variant = variant.model_copy(update={"training": training})

    def log(where: EngineConfig) -> pl.DataFrame:
        llm = project.load("base_llm")  # anew, since PEFT puts the adapter into it
        with TemporaryDirectory() as folder:
            checkpoints = CheckpointStore(folder, "fine-tuning")
            trained = train_adapter(llm, few, states, checkpoints, project.parameters["prompt"], variant, where)
        return trained[0].fill_null(0)

    return log


def work_on_long_log() -> Callable[[EngineConfig], pl.DataFrame]:
    """Ingestion and history in ten parts: the samples' numbers."""
    from long_logs import make_raw, read_raw

    from reclora_kedro.history.log_builder import LogInFiles, build_log
    from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables

    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    make_raw(LOG_ROWS, folder)
    table, raw_items = read_raw(folder)

    def samples(where: EngineConfig) -> pl.DataFrame:
        where = where.model_copy(update={"rows_per_part": LOG_ROWS // 10})
        interactions, items, users, _ = build_canonical_tables(table, raw_items, None, None, INGESTION, where)
        log = build_log(interactions, items, users, history_settings(), where)
        assert isinstance(log, LogInFiles)
        return log.samples.select(pl.col(pl.Int64)).collect()

    return samples


def measure(step: str, workers: int, rows: int, folder: Path | None) -> dict[str, Any]:
    """Seconds of one step on an engine, those that a group trained, and those of the start of Ray before it."""
    call, where = work(step, rows, epochs=20, folder=folder), engine(workers)
    start = time.perf_counter()
    if workers:
        list(map_shards(abs, [1], where, "start"))
    started = time.perf_counter()
    table = call(where)
    seconds = time.perf_counter() - started
    trained = table["seconds"].max() if "seconds" in table.columns else None
    told = {"seconds": seconds, "of which training": trained, "start of Ray": started - start}
    return told if folder is None else told | {"digest": int(table.hash_rows().sum())}


def compare_recommending(repetitions: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Medians of the steps of a large log on one worker and on two, and whether their results are equal."""
    table = []
    for step in RECOMMENDATION:
        runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
        for _ in tqdm(range(repetitions), desc=step, disable=None):
            for workers, measured in runs.items():
                command = [sys.executable, __file__, "--measure", step, "--workers", str(workers)]
                measured.append(run([*command, "--project", str(folder.resolve())], threads=1))
        one, two = (median(each["seconds"] for each in measured) for measured in runs.values())
        equal = len({each["digest"] for measured in runs.values() for each in measured}) == 1
        figures = {"seconds, 1 worker": one, "seconds, 2 workers": two, "ratio": one / two}
        table.append({"step": step} | figures | {"results": "equal" if equal else "DIFFER"})
    return {"Seconds": table}


def compare(rows: int, repetitions: int) -> dict[str, list[dict[str, Any]]]:
    """Medians of every step on one worker, on two, and for scoring in this process with two threads."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    kinds = [(step, workers) for step in STEPS for workers in (1, 2)] + [("LLM scoring", 0)]
    for repetition in tqdm(range(repetitions), desc="steps", disable=None):
        for step, workers in kinds[:: 1 if repetition % 2 == 0 else -1]:
            command = [sys.executable, __file__, "--measure", step, "--workers", str(workers), "--rows", str(rows)]
            runs.setdefault((step, workers), []).append(run(command, threads=1 if workers else 2))
    medians = {
        kind: {what: median(each[what] for each in runs[kind]) for what, value in runs[kind][0].items() if value}
        for kind in kinds
    }
    seconds = {kind: medians[kind]["seconds"] for kind in kinds}
    table = [
        {
            "step": step,
            "on": f"Ray, {workers} worker{'s' * (workers > 1)} of one thread" if workers else "this process, 2 threads",
            **{what: medians[step, workers].get(what) for what in ("seconds", "of which training", "start of Ray")},
        }
        for step, workers in kinds
    ]
    trained = tuple(medians["lens training", workers]["of which training"] for workers in (1, 2))
    ratios = {f"{step}: one worker's seconds / two workers'": (seconds[step, 1], seconds[step, 2]) for step in STEPS}
    ratios["lens training: the same of the seconds that they train, without their start"] = trained
    here = f"LLM scoring of {rows:,} rows: two workers' seconds / those of two threads of one process"
    ratios[here] = seconds["LLM scoring", 2], seconds["LLM scoring", 0]
    compared = [{"comparison": name, "ratio": f"{one / other:.2f}"} for name, (one, other) in ratios.items()]
    return {"Seconds": table, "Ratios": compared}


def count_faults(steps: Sequence[str], trials: int, rows: int) -> list[dict[str, Any]]:
    """How a step ends whose workers are killed, whose node is removed, or which is killed, at a random moment."""
    table = _count_resumed(trials, rows) if RESUMED in steps else []
    steps = [step for step in steps if step != RESUMED]
    return table + (_count_on_cluster(steps, trials, rows) if steps else [])


def _count_resumed(trials: int, rows: int) -> list[dict[str, Any]]:
    """How a scoring ends whose process is killed before it, with a Ray that it started itself."""

    def score(folder: str) -> list[str]:
        return [sys.executable, __file__, "--score", folder, "--rows", str(rows)]

    outcomes: Counter[str] = Counter()
    drawn = random.Random(0)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        expected = run(score(folder), threads=1)
        seconds = time.perf_counter() - start
    for _ in tqdm(range(trials), desc=RESUMED, disable=None):
        with TemporaryDirectory() as folder:
            killed = subprocess.Popen(score(folder), stdout=subprocess.DEVNULL)
            time.sleep(drawn.uniform(seconds / 2, seconds))
            ended = killed.poll() is not None
            killed.kill()
            killed.wait()
            kept = len(list(Path(folder).iterdir()))
            same = np.allclose(run(score(folder), threads=1), expected, rtol=0, atol=TOLERANCE)
            when = "its end" if ended else f"{kept} of {rows // RESUMED_SHARD} shards"
            outcomes[f"{'the same' if same else 'another'} result, killed after {when}"] += 1
    return [
        {"step": "LLM scoring", "fault": "its process is killed", "end": end, "trials": n}
        for end, n in outcomes.items()
    ]


def _count_on_cluster(steps: Sequence[str], trials: int, rows: int) -> list[dict[str, Any]]:
    import ray
    from ray.cluster_utils import Cluster

    table, drawn = [], random.Random(0)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    spare = cluster.add_node(num_cpus=1)
    where = engine(2).model_copy(update={"address": cluster.address})
    for step in steps:
        call = work(step, rows, epochs=5)
        expected, seconds = pl.DataFrame(), 0.0
        for fault in ("none", "a worker is killed", "a node is removed"):
            outcomes: Counter[str] = Counter()
            for _ in tqdm(range(2 if fault == "none" else trials), desc=f"{step}: {fault}", disable=None):
                connect(where)
                struck: list[str] = []
                over = threading.Event()
                strike = partial(_strike, fault, cluster, spare, struck, over)
                timer = threading.Timer(drawn.uniform(0, seconds), strike)
                timer.start()
                start = time.perf_counter()
                try:
                    result = call(where).drop("seconds", strict=False)
                    if fault == "none":
                        seconds = time.perf_counter() - start
                        expected = result if expected.is_empty() else expected
                    same = np.allclose(result, expected, rtol=0, atol=TOLERANCE)
                    missed = "" if fault in struck or fault == "none" else ", as the step had ended before the fault"
                    outcomes[f"the same result{missed}" if same else "another result"] += 1
                except Exception as error:
                    outcomes[f"{type(error).__name__}: {str(error)[:80]}"] += 1
                finally:
                    timer.cancel()
                    over.set()
                    ray.shutdown()
                    if "a node is removed" in struck:
                        spare = cluster.add_node(num_cpus=1)
            tqdm.write(f"{step}, {fault}: {dict(outcomes)}", file=sys.stderr)
            table += [{"step": step, "fault": fault, "end": end, "trials": count} for end, count in outcomes.items()]
    cluster.shutdown()
    return table


def _strike(fault: str, cluster: Any, node: Any, struck: list[str], over: threading.Event) -> None:
    """Do the harm, and note it: take a node away, or kill one process as soon as one is at work."""
    import psutil

    if fault == "a node is removed":
        cluster.remove_node(node, allow_graceful=False)
        struck.append(fault)
    while fault == "a worker is killed" and not struck and not over.wait(0.02):
        working = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "".join(process.info["cmdline"] or []).startswith("ray::_Worker")
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
    parser.add_argument("--strike", nargs="+", choices=STRUCK, default=STRUCK, help="steps that faults are made in")
    parser.add_argument("--project", type=Path, help="folder of a project that bench-scale left")
    parser.add_argument("--measure", choices=(*STEPS, *RECOMMENDATION), help=argparse.SUPPRESS)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.workers, arguments.rows, arguments.project)))
        return
    if arguments.score:
        where = engine(2).model_copy(update={"rows_per_shard": RESUMED_SHARD})
        scores = scoring(open_project(), arguments.rows, FinishedShards(arguments.score, "scoring"))(where)
        print(json.dumps(scores["logit"].to_list()))
        return
    if arguments.project:
        tables = compare_recommending(arguments.repetitions, arguments.project)
        return publish("ray-recommending", tables, go.Figure())
    tables = compare(arguments.rows, arguments.repetitions) if arguments.repetitions else {}
    if arguments.faults:
        tables["Faults"] = count_faults(arguments.strike, arguments.faults, min(arguments.rows, 200))
    rows = tables.get("Seconds", [])
    figure = go.Figure(go.Bar(x=[f"{row['step']}<br>{row['on']}" for row in rows], y=[row["seconds"] for row in rows]))
    publish("ray", tables, figure.update_layout(yaxis_title="seconds"))


if __name__ == "__main__":
    main()
