"""Every benchmark runs to its end, on data of seconds and with all its measurements in this process.

What other packages or a Ray would do is done by what they are compared with.
"""

import importlib
import json
import shutil
import subprocess
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from forked import FORKED
from projects import ROOT, copy_project
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables
from shop import shop

pytestmark = pytest.mark.benchmark
MEASURING = ("cluster", "lens", "linear_forms", "llm", "long_logs")  # those with measuring processes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with fabricated data and the benchmarks."""
    folder = copy_project(tmp_path_factory.mktemp("benchmarks") / "project")
    return Path(shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")).parent


class Benchmarks:
    """The benchmarks' modules, and their tables."""

    def __init__(self, project, patch):
        self.project, self.patch = project, patch
        self.files = {"cluster": "ray"}  # that are not named like the script
        self.stand_in = list  # a command instead of another one

    def module(self, name):
        return importlib.import_module(name)

    def main(self, name, *arguments):
        """What a script prints."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            self.module(name).main()
        return output.getvalue()

    def tables(self, name, *arguments):
        self.main(name, *arguments)
        return json.loads(
            (self.project / f"data/08_reporting/benchmarks/{self.files.get(name, name)}.json").read_text()
        )

    def shorten_training(self, name):
        """Have lenses learn for one epoch, on the fabricated data alone."""
        module = self.module(name)
        self.patch.setitem(self.module("lifelong").LOGS, "fabricated", "test")
        project = module.open_project("test")
        lens = project.parameters["lens"].model_copy(update={"max_epochs": 1})
        self.patch.setattr(
            module, "open_project", lambda _: project._replace(parameters=project.parameters | {"lens": lens})
        )
        return module

    def run(self, command, threads=None):
        """What `running.run` does in another process."""
        _, script, *arguments = self.stand_in(command)
        return json.loads(self.main(Path(script).stem, *arguments).splitlines()[-1])


@pytest.fixture
def benchmarks(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project / "benchmarks")
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    before = set(sys.modules)
    benchmarks = Benchmarks(project, monkeypatch)
    for name in MEASURING:
        monkeypatch.setattr(benchmarks.module(name), "run", benchmarks.run)
    yield benchmarks
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(project / "benchmarks"):
            del sys.modules[name]


def test_long_logs(benchmarks):
    module = benchmarks.module("long_logs")
    benchmarks.patch.setattr(module, "ROWS_PER_FILE", 10_000)
    benchmarks.patch.setattr(module, "environment", lambda *_: sys.executable)

    def here(command):
        if "peers.duckdb_log" in command:
            raw, folder = command[-4:-2]
            command = module.command(Path(raw), folder, module.HERE)
        return [module.HERE if word in (module.ONE, module.TWO) else word for word in command]

    benchmarks.stand_in = here
    tables = benchmarks.tables("long_logs", "--steps", 2, "--rows", 20_000, 30_000)
    assert len(tables["Seconds"]) == 2 * len((*module.SYSTEMS, module.DRAWN, module.PEER))
    assert [row["learner"] for row in tables["Training"]] == [*module.LEARNERS] * 2
    assert [row["measured"] for row in tables["Ratios"][-4:]] == [1, 1, 1, 1]


def test_lens(benchmarks):
    benchmarks.patch.setattr(benchmarks.module("lens"), "LENGTHS", (60,))
    sizes = {"--epochs": 1, "--log": 20_000, "--rows": 40, "--threads": 1}
    tables = benchmarks.tables("lens", "--env", "test", *(word for pair in sizes.items() for word in pair))
    assert [len(table) for title, table in tables.items() if title != "machine"] == [4]


LLM_SIZES = {"--repetitions": 1, "--rows": 2, "--batch-size": 2, "--candidates": 12, "--users": 16, "--threads": 1}


def test_llm(benchmarks):
    benchmarks.patch.setitem(benchmarks.module("llm").PRODUCT_SIZES, "cpu", 64)
    arguments = ["--env", "test", *(word for pair in LLM_SIZES.items() for word in pair)]
    tables = benchmarks.tables("llm", *arguments)
    assert {row["work"] for row in tables["Speed"]} >= {"training", "scoring", "recipe", "candidates", "export"}
    assert all(float(row["largest difference of logits"]) < 1e-3 for row in tables["Agreement, in float32"])


def test_lifelong(benchmarks):
    benchmarks.shorten_training("lifelong")
    tables = benchmarks.tables("lifelong", "--logs", "fabricated", "--blocks", 2)
    lengths = {"AUC per block": 2 * 4, "Differences": 6, "Segments": 4 * 4, "Updates": 4}
    for title, length in lengths.items():
        [table] = [rows for name, rows in tables.items() if name.startswith(title)]
        assert len(table) <= length
        assert table


def test_windows(benchmarks):
    module = benchmarks.shorten_training("windows")
    tables = benchmarks.tables("windows", "--log", "fabricated", "--windows", 2, "--days", 3, "--seeds", 1)
    assert [len(table) for title, table in tables.items() if title != "machine"] == [6, 2 * 6]
    liked = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    gain = 1 / np.log2(3)  # of the second place: one of two likes, which would be first and second
    assert module.hits_and_gains(np.array([[1, 2], [0, 1]]), liked) == (0.5, pytest.approx(gain / (1 + gain) / 2))


@pytest.mark.parametrize("frozen", [False, True])
def test_libraries(benchmarks, monkeypatch, frozen):
    module = benchmarks.module("libraries")
    monkeypatch.setattr(module, "LOGS", {"fabricated": "test"})

    def most_popular(python, library, folder, model, limit):
        if library != "ours":
            raise subprocess.CalledProcessError(1, "python", stderr="first\nImportError: no such library\n")
        known, users = (pl.read_csv(folder / f"{table}.csv") for table in ("train", "users"))
        counts = known.group_by("item_id").len().sort("len", "item_id", descending=[True, False])
        lists = users.join(counts, how="cross").join(
            known, on=["user_id", "item_id"], how="anti", maintain_order="left"
        )
        first = lists.group_by("user_id", maintain_order=True).head(module.K).select("user_id", "item_id")
        assert users["user_id"].is_unique().all()
        first.write_csv(folder / f"{model}.csv")
        return {"CPU seconds to fit": 1.0}

    monkeypatch.setattr(module, "run_model", most_popular)
    monkeypatch.setattr(module, "environment", lambda *_, **__: Path(sys.executable))
    arguments = ("--logs", "fabricated", "--libraries", "ours", "implicit", "--models", *module.OURS, "implicit ALS")
    benchmarks.files["libraries"] = "libraries_frozen" if frozen else "libraries"
    tables = benchmarks.tables("libraries", *arguments, *["--frozen"] * frozen)
    assert [record["model"] for record in tables["Lists"]] == [*module.OURS]
    assert all((record["likes"] > record["users"]) == frozen for record in tables["Lists"])
    assert frozen or 0 < tables["Lists"][0]["NDCG@10"] <= tables["Lists"][0]["HR@10"] < 1
    assert tables["Not run"] == [
        {"log": "fabricated", "model": "implicit ALS", "error": "ImportError: no such library"}
    ]


def test_places_of_lists_that_recommend_nothing_count_for_nothing(benchmarks, tmp_path):
    (tmp_path / "train.csv").write_text("user_id,item_id\n0,5\n1,5\n2,5\n")
    (tmp_path / "M.csv").write_text("user_id,item_id\n0,5\n0,7\n0,7\n0,6\n0,-1\n1,-1\n")  # taken, repeated, padded
    test = pl.DataFrame({"user_id": [0, 1, 2, 0], "item_id": [6, 6, 6, 8]})
    lists = benchmarks.module("libraries").lists_of(tmp_path, "M", test)
    assert lists["rank"].to_list() == [2, None, None, None]
    assert lists["top_items"].to_list() == [[7, 6], [0], [0], [7, 6]]


def test_a_search_keeps_the_settings_that_find_the_last_known_likes(benchmarks, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "", "", "60"])
    module = benchmarks.module("peers.lists")
    users, likes = np.arange(10), 6
    known = pd.DataFrame({"user_id": users.repeat(likes), "item_id": np.arange(len(users) * likes)})
    sizes = []

    def fit(train, place=1):
        sizes.append(len(train))
        return lambda asked: pd.DataFrame({"user_id": asked, "item_id": [likes * user + place for user in asked]})

    for places in ([0, likes - 1, 2], [likes - 1, likes]):
        assert module.search(module.Peer(fit, {"place": places}), known) == ({"place": likes - 1}, 1 + len(places))
    assert module.search(module.Peer(fit, {"place": [0, 2]}), known) == ({}, 3)  # none better than the defaults
    assert {*sizes} == {len(known) - len(users)}


def test_histories_by_recency_are_one_more_setting_of_a_search(benchmarks, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "", "", "60"])
    module = benchmarks.module("peers.lists")
    known = pd.DataFrame({"user_id": [3, 3, 4, 3], "item_id": [1, 2, 1, 3]})
    assert module.by_recency(known, 0.5)["weight"].to_list() == [0.25, 0.5, 1, 1]
    assert module.by_recency(known, 1)["weight"].to_list() == [1] * 4
    likes = pd.DataFrame({"user_id": np.arange(10).repeat(6), "item_id": np.arange(60)})

    def fit(train, place=0, recency=1.0):
        return lambda asked: pd.DataFrame(
            {"user_id": asked, "item_id": [6 * user + (5 if recency == 0.7 else place) for user in asked]}
        )

    assert module.search(module.Peer(fit, {"place": [0, 1]}), likes, (1.0, 0.7)) == ({"recency": 0.7}, 6)


def test_ablation(benchmarks, monkeypatch):
    module = benchmarks.module("ablation")
    monkeypatch.setattr(module, "LOGS", {"fabricated": "test"})
    tables = benchmarks.tables("ablation", "--logs", "fabricated")
    for ties in module.ORDERS.values():
        table = tables[f"fabricated, order in a second {ties}"]
        parts = [module.FIRST, "+ recency", "+ transitions", "+ directed", module.TEXTS, module.SECOND_STAGE]
        assert [row["part"] for row in table] == [*parts, module.IDS_ALONE]
        for before, row in pairwise(table):
            assert row["less the row"] == pytest.approx(row["NDCG@10"] - before["NDCG@10"])
            assert row["low"] <= row["less the row"] <= row["high"]


def test_deletions(benchmarks):
    benchmarks.shorten_training("deletions")
    sizes = ("--requests", 2, "--users", 3, "--least", 1, "--seeds", 1)
    table = benchmarks.tables("deletions", "--log", "fabricated", *sizes)["By request"]
    assert [(row["forgotten"], row["lens"]) for row in table[:4]] == [
        (0, "before any request"), (3, "before any request"), (3, "forget"), (3, "full retraining"),
    ]  # fmt: skip
    assert len(table) == 1 + 2 * 3


def test_large_catalogue(benchmarks):
    printed = benchmarks.main("large_catalogue", "--items", 3_000, "--users", 20, "--dim", 8)
    assert printed.count(" lists ") + printed.count("lists (chosen)") >= 3
    assert "every item" in printed
    compared = benchmarks.main("large_catalogue", "--methods", 1_000, "--users", 3, "--dim", 8)
    assert all(method in compared for method in benchmarks.module("large_catalogue").METHODS)


def test_linear_forms(benchmarks):
    module = benchmarks.module("linear_forms")
    [rows] = [
        each for each in benchmarks.tables("linear_forms", 400, "--users", 200).values() if isinstance(each, list)
    ]
    assert [row["form"] for row in rows] == [*module.FORMS, *module.FORMS[:-1]]
    assert all(row["recall@10"] > 0.99 for row in rows if row["form"] == "blocks")  # one holds all items


def test_attacks(benchmarks):
    place = pl.int_range(400, eager=True)
    columns = {"user_id": place % 20, "item_id": place % 37, "rating": (place % 5 + 1).cast(pl.Float64)}
    night = pl.DataFrame(columns).with_columns(
        timestamp=880_000_000 + 60 * place, label=(pl.col("rating") >= 4).cast(pl.Int8)
    )
    attacks = benchmarks.module("attacks").ATTACKS
    made = {name: attack(night, 1, night) for name, attack in attacks.items()}
    assert all(rows.schema == night.schema for rows in made.values())
    assert made.pop("none").equals(night)
    assert not any(rows.equals(night) for rows in made.values())


def test_lifelong_adapter(benchmarks):
    benchmarks.patch.setitem(benchmarks.module("lifelong").LOGS, "fabricated", "test")
    sizes = ("--few-shot", 8, "--new", 8, "--validation", 40, "--scored", 60, "--blocks", 2)
    tables = benchmarks.tables("lifelong_adapter", "--log", "fabricated", *sizes)
    policies = ["as it was", "lens", "adapter, none", *(f"both, {each}" for each in ("none", "replay", "proximal"))]
    assert [row["policy"] for row in tables["AUC per block"]] == [*policies, "both, short_term"]
    assert {row["safeguard"] for row in tables["Updates of the adapter"]} > {"start", "none", "short_term"}


@pytest.fixture
def small_project(benchmarks, tmp_path):
    """What a run on the fabricated data would leave for the benchmark of clusters, of random lens states."""
    running, llm = benchmarks.module("running"), benchmarks.module("llm")
    parameters, load = running.open_project("test")
    raw = [load(f"raw_{table}") for table in ("interactions", "items", "item_texts", "users")]
    interactions, items, users, _ = build_canonical_tables(*raw, parameters["ingestion"], LOCAL)
    log = build_log(interactions, items, users, parameters["history"], LOCAL)
    llm.write_work(
        running.Project(parameters, load),
        Namespace(
            **{name.strip("-").replace("-", "_"): size for name, size in LLM_SIZES.items()}, tokens_per_batch=2048
        ),
        tmp_path,
    )
    prompts = pl.read_parquet(tmp_path / "prompts.parquet")
    states = {
        "row": torch.from_numpy(prompts["row"].to_numpy().astype(np.int64)),
        "logit": torch.zeros(prompts.height),
        parameters["finetuning"]["variants"]["reclora"].gate_input: torch.randn(prompts.height, 8),
    }
    made = {
        "log": log.with_embeddings(np.random.default_rng(0).normal(size=(items.height, 8)).astype(np.float32)),
        "test.recent.prompts": prompts,
        "learning.recent.prompts": prompts,
        "learning_states": states,
    }
    return running.Project(parameters, lambda name: made[name] if name in made else load(name))


def test_cluster(benchmarks, small_project, tmp_path):
    module = benchmarks.module("cluster")
    benchmarks.patch.setattr(module, "open_project", lambda: small_project)
    benchmarks.patch.setattr(module, "engine", lambda workers: LOCAL.model_copy(update={"rows_per_shard": 20}))
    sizes = {"LENS": module.LENS | {"patience": 1}, "LOG_ROWS": 20_000, "FEW_SHOT": 8, "CHECKPOINT": 4}
    for name, size in sizes.items():
        benchmarks.patch.setattr(module, name, size)
    tables = benchmarks.tables("cluster", "--rows", 40, "--repetitions", 1, "--faults", 0)
    assert [len(tables[title]) for title in ("Seconds", "Ratios")] == [5, 4]
    assert len(json.loads(benchmarks.main("cluster", "--score", tmp_path / "scores", "--rows", 40))) == 40
    for step in (module.LONG_LOG, module.FINETUNING):
        assert module.work(step, 40, epochs=1)(LOCAL).height


class ForkedService:
    """Stands in for `subprocess.Popen` of a service."""

    def __init__(self, command):
        folder, cores = (
            Path(command[command.index("--serve") + 1]),
            set(map(int, command[command.index("--cores") + 1 :])),
        )
        serve = importlib.import_module("serve").serve
        self._process = FORKED.Process(target=serve, args=("test", folder, 4, cores))
        self._process.start()
        self.pid, self.poll, self.terminate = self._process.pid, lambda: self._process.exitcode, self._process.terminate

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.join()


def test_serve(benchmarks):
    module = benchmarks.module("serve")
    benchmarks.patch.setattr(module.subprocess, "Popen", ForkedService)
    benchmarks.patch.setattr(module.os, "sched_setaffinity", lambda *_: None)
    benchmarks.patch.setattr(module, "USERS", (1, 8))
    sizes = {
        "--lens-requests": 8,
        "--llm-requests": 2,
        "--rows": 4,
        "--users": 8,
        "--mixed-minutes": 0.01,
        "--kills": 1,
    }
    tables = benchmarks.tables("serve", "--env", "test", *(word for pair in sizes.items() for word in pair))
    [differences] = tables["Largest difference from offline scores"]
    assert differences["lens"] <= 1e-6
    assert differences["llm"] <= 1e-4
    [mixed] = next(rows for title, rows in tables.items() if "mixed load" in title)
    assert mixed["errors"] == 0
    assert len(tables["By number of clients"]) == 6
    [killed] = tables["Kills under load"]
    assert (killed["lost"], killed["stored twice"]) == (0, 0)
    assert killed["acknowledged"] >= 100
    by_processes = tables["Processes behind one journal, all cores for all"]
    assert [(row["processes"], row["errors"]) for row in by_processes] == [(1, 0), (2, 0)] * 2


def test_journal(benchmarks, postgres_server):
    tables = benchmarks.tables("journal", "--events", 60, "--kills", 2)
    counts = {row["count"]: row["events"] for row in tables["The journal in PostgreSQL under kills"]}
    assert (counts["lost"], counts["stored twice"]) == (0, 0)
    assert counts["acknowledged"] >= 60


def test_faults(benchmarks):
    benchmarks.patch.setattr(benchmarks.module("faults"), "make_clean_runs", lambda *of: None)
    for name, table in (("bad_inputs", "BAD_INPUTS"), ("bad_parameters", "CASES")):
        module = benchmarks.module(name)
        benchmarks.patch.setattr(module, table, getattr(module, table)[:2])
    tables = benchmarks.tables("faults", "--trials", 0)
    outcomes = {row["kind"]: row["refused before it wrote"] for row in tables["How trials ended"]}
    kinds = dict.fromkeys(("kills", "edits", "flips", "runners", "updates", "rollbacks", "forgettings"), 0)
    assert outcomes == kinds | {"bad inputs": 2, "bad parameters": 2}


def test_equality(benchmarks, tmp_path):
    module = benchmarks.module("equality")

    def run_side(name, folder, revision):
        version = "2026-01-01T00.00.00.000Z" if revision else "2026-01-02T00.00.00.000Z"
        for entry, frame in tables.items():
            file = folder / f"data/05_model_input/{entry}/{version}/{entry}"
            file.parent.mkdir(parents=True)
            frame.with_columns(score=10 * pl.col("row") + (0 if revision else change)).write_parquet(file)
        return folder

    tables, change = {"scores.parquet": pl.DataFrame({"row": [1, 2]})}, 0
    benchmarks.patch.setattr(module, "run_side", run_side)
    for change, code in ((0, 0), (1, 1)):
        with pytest.raises(SystemExit) as ended:
            benchmarks.main("equality", "--before", "HEAD", "--only", "flow", "--keep", tmp_path / str(change))
        assert ended.value.code == code


def test_edits_that_change_nothing_run_nothing():
    command = [sys.executable, ROOT / "benchmarks/edits.py", "--suite", "project", "--only", "a docstring"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[3] == "| project | 2 | 0 | 0 | 0 | 0.00 |"


def test_a_run_with_nothing_to_do_in_many_nodes_is_measured():
    command = [sys.executable, ROOT / "benchmarks/many_nodes.py", "--nodes", "3", "--repeats", "1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split(" | ")[0] for line in said[2:]] == ["| Kedro's own", "| with the plug-in"]


def test_rules(benchmarks, tmp_path):
    orders, products = shop()
    orders.write_csv(tmp_path / "orders.csv")
    products.write_csv(tmp_path / "products.csv")
    with pytest.raises(SystemExit, match="0"):
        benchmarks.main("rules", "--users", 3, "--logs", f"{tmp_path}/orders.csv,{tmp_path}/products.csv")
