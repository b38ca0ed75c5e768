"""From a CSV of MovieLens-25M's shape to everyone's lists, a service that answers, and personalised LoRA.

    make bench-scale
    python benchmarks/scale.py --rows 2500009
    python benchmarks/scale.py --rows 100000000 --items 1000000 --users 100000 --encoder tfidf

In an empty folder, it types what a user types: `reclora new-log` with the log's files, the command that this prints,
`kedro serve`, and `kedro run --to-nodes reclora.score_adapter` with 1,000 test rows. The seconds and the peak memory of
a step are those of all processes together. The log of 25 million rows takes 6 GB of disk.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import psutil
from results import publish
from serve import ask_all
from synthetic_log import make_log

SIZES = (2_500_009, 10_000_038, 25_000_095)
WORDS, GENRES = 20_000, 19  # of titles
TEST_ROWS = 1000  # that RecLoRA scores
ANSWERED = 400  # users whom the service answers
CLIENTS = (1, 16)  # who ask for them at once
NODE = re.compile(r"^([a-z_.0-9]+)\s+([\d.]+) s\b")
BIN = Path(sys.executable).parent


def make_items(items: int) -> pl.DataFrame:
    """Return item_id, title (three words of a long-tailed vocabulary and a year) and genres."""
    random = np.random.default_rng(1)
    words = (WORDS * random.random((items, 3)) ** 3).astype(int)
    years, genres = random.integers(1930, 2020, size=items), random.integers(GENRES, size=(items, 2))
    return pl.DataFrame(
        {
            "item_id": range(1, items + 1),
            "title": [f"word{a} word{b} word{c} ({year})" for (a, b, c), year in zip(words, years, strict=True)],
            "genres": ["|".join(f"genre{each}" for each in sorted({*own})) for own in genres.tolist()],
        }
    )


class Watch:
    """What a process and its children use, since the last time that it was asked for."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._peak, self._cpu, self._since, self._used = process, 0, 0.0, time.perf_counter(), 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self._process.is_running():
            began, memory, seconds = time.perf_counter(), 0, 0.0
            for each in [self._process, *self._children()]:
                try:
                    memory += each.memory_full_info().pss
                    seconds += sum(each.cpu_times()[:4])  # with children that have ended
                except psutil.Error:
                    continue
            self._peak, self._cpu = max(self._peak, memory), max(self._cpu, seconds)
            time.sleep(max(0.5, 20 * (time.perf_counter() - began)))  # to look at 12 GiB takes a while

    def _children(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []

    def step(self, name: str) -> dict[str, Any]:
        """Return the seconds, CPU seconds and peak memory of what has been done."""
        now = time.perf_counter()
        told = {
            "step": name,
            "seconds": now - self._since,
            "CPU s": self._cpu - self._used,
            "peak GiB": self._peak / 2**30,
        }
        self._since, self._used, self._peak = now, self._cpu, 0
        return told


def typed(command: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Run a command in a folder and return its nodes, with what was used until each was done."""
    print("$", *command, flush=True)
    process = subprocess.Popen(
        [BIN / command[0], *command[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watch, steps = Watch(psutil.Process(process.pid)), list[dict[str, Any]]()
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if node := NODE.match(line):
            steps.append(watch.step(node[1]))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    return [*steps, watch.step(f"end of {command[0]} {command[1]}")]


def served(environment: str, folder: Path) -> list[dict[str, Any]]:
    """Start the service and return the seconds until it is ready, and for users' lists, one by one and at once."""
    command = ["serve", "--env", environment, "--params", "service.port=8765"]
    print("$ kedro", *command, flush=True)
    process = subprocess.Popen([BIN / "kedro", *command], cwd=folder, start_new_session=True)
    watch = Watch(psutil.Process(process.pid))
    try:
        while True:
            try:
                urllib.request.urlopen("http://127.0.0.1:8765/health/ready", timeout=60).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"kedro serve ended with {process.returncode}.") from None
                time.sleep(0.1)
        steps = [watch.step("kedro serve: until it is ready")]
        users = count(1)
        for clients in CLIENTS:
            requests = (("/recommend", {"user": user}) for user in islice(users, ANSWERED))
            answers = asyncio.run(ask_all(8765, requests, clients))
            assert {status for status, _ in answers} == {200}
            median, slow = np.percentile([1e3 * seconds for _, seconds in answers], [50, 95])
            step = f"kedro serve: {ANSWERED} lists by {clients} clients"
            steps.append(watch.step(f"{step}; median {median:.0f} ms, 95% below {slow:.0f} ms"))
        return steps
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()


def measure(
    rows: int, folder: Path, items: int | None, listed: int | None, encoder: str | None
) -> list[dict[str, Any]]:
    """Return the steps of a log of `rows` rows.

    Args:
        items: its items (None: as many as such a log has).
        listed: first users, who get lists (None: all).
        encoder: what embeds the items' texts (None: the default one).
    """
    shutil.rmtree(folder, ignore_errors=True)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    log = make_log(rows, items=items)
    users, items = log["user_id"].n_unique(), items or int(log["item_id"].max())  # type: ignore[arg-type]
    log.write_csv(raw / "ratings.csv")
    make_items(items).write_csv(raw / "films.csv")
    del log
    project = folder / "project"
    project.mkdir()
    new_log = ["reclora", "new-log", str(raw / "ratings.csv"), str(raw / "films.csv"), "--name", "scale", "--yes"]
    run = ["kedro", "run", "--env", "scale"]
    steps = typed(new_log, project)
    parameters: dict[str, Any] = {"recommendation": {"users": [*range(1, listed + 1)]}} if listed is not None else {}
    if encoder is not None:
        parameters["history"] = {"item_embedding": {"encoders": [encoder]}}
    if parameters:
        (project / "conf" / "scale" / "parameters_scale.yml").write_text(json.dumps(parameters))
    steps += typed([*run, "--to-nodes", "recommendation.show_recommendations"], project)
    steps += served("scale", project)
    llm = ["--to-nodes", "reclora.score_adapter", "--only-missing-outputs"]
    steps += typed([*run, *llm, "--params", f"history.prompt_rows.test={TEST_ROWS}"], project)
    of_log = {"rows": rows, "users": users, "items": items}
    return [of_log | step for step in steps]


def growth(every: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the seconds of each step by the size of the log, and of the largest one over those of the smallest."""
    table = pl.DataFrame(every).with_columns(step=pl.col("step").str.split(";").list.first())
    table = table.pivot("rows", index="step", values="seconds", aggregate_function="sum", maintain_order=True)
    first, last = table.columns[1], table.columns[-1]
    longer, times = pl.col(last) / pl.col(first), int(last) / int(first)
    return table.with_columns(longer.alias(f"times as long, of {times:.1f} times the rows")).to_dicts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--items", type=int, help="items of the log; left out: as many as such a log has")
    parser.add_argument("--users", type=int, help="users who get lists; left out: all")
    parser.add_argument("--encoder", help="what embeds the items' texts, such as tfidf; left out: the default one")
    parser.add_argument("--folder", type=Path, default=Path(gettempdir(), "reclora"), help="where projects are left")
    arguments = parser.parse_args()
    tables, every = dict[str, Any](), list[dict[str, Any]]()
    for rows in arguments.rows:
        folder = arguments.folder / f"scale-{rows}"
        steps = measure(rows, folder, arguments.items, arguments.users, arguments.encoder)
        minutes, peak = sum(step["seconds"] for step in steps) / 60, max(step["peak GiB"] for step in steps)
        of_log = f"{rows:,} rows, {steps[0]['users']:,} users, {steps[0]['items']:,} items"
        columns = ("step", "seconds", "CPU s", "peak GiB")
        tables[f"{of_log}: {minutes:.1f} minutes, {peak:.1f} GiB"] = [
            {name: step[name] for name in columns} | {"rows per s": rows / max(step["seconds"], 0.1)} for step in steps
        ]
        every += steps
    if len(arguments.rows) > 1:
        tables["Seconds by size"] = growth(every)
    figure = go.Figure()
    for rows in arguments.rows:
        own = [step for step in every if step["rows"] == rows]
        figure.add_bar(name=f"{rows:,} rows", x=[step["step"] for step in own], y=[step["seconds"] for step in own])
    publish("scale", tables, figure.update_layout(yaxis_title="seconds"), digits=1)


if __name__ == "__main__":
    main()
