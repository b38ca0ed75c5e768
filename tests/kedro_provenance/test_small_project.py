"""A small project of Kedro's own kind uses the plug-in by four lines in its settings."""

import json
import shutil
import subprocess

import pandas as pd
import pytest

from kedro_provenance.recipe import FILE, read_version
from small_project import (
    by_airflow,
    by_kedro,
    by_notebook,
    by_server,
    by_settings,
    commanded,
    edit,
    in_processes,
    loaded,
    make_project,
    ran,
    repeated,
    with_clock_set_back,
)

ORDERS, PARAMETERS = "data/01_raw/orders.csv", "conf/base/parameters.yml"


UNTOLD = """
from kedro.io import AbstractDataset
from kedro_datasets.pandas import ParquetDataset


class Untold(ParquetDataset):
    _exists = AbstractDataset._exists
"""


def again(folder, by=by_settings, edits=(None,)):
    """The nodes that sessions of one process make again after edits, by session."""
    return ran(repeated, folder, by, edits)


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("versions", by_settings),
        ("files", by_kedro),
        ("memory", by_settings),
        ("no entry", by_kedro),
        ("cached", by_settings),
        ("table", by_kedro),
    ],
)
def test_what_is_out_of_date_is_made_again_and_nothing_else(tmp_path, kind, by):
    folder = make_project(tmp_path, kind)
    assert ran(by_kedro, folder) == ["clean", "total"]
    of_total = (
        ["clean", "total"] if kind in ("memory", "no entry") else ["total"]
    )  # what is in memory alone is made for its reader
    unread = (PARAMETERS, "sales", "turnover")
    edits = [None, unread, (PARAMETERS, "1.2", "2"), (ORDERS, "2,5", "2,6.4"), None]
    assert again(folder, by, edits) == [[], [], of_total, ["clean", "total"], []]
    edit(folder, "src/shop/prices.py", "round(1)", "round()")  # another length: Python looks at seconds and size alone
    assert again(folder, by) == [of_total]
    [*_, newest] = sorted(path for path in (folder / "data/03_primary").rglob("totals.parquet") if path.is_file())
    assert pd.read_parquet(newest).price.tolist() == [10, 13]


def test_what_reads_equal_data_is_kept(tmp_path):
    folder = make_project(tmp_path)
    ran(by_settings, folder)
    edits = [(ORDERS, "2,-1", "2,-4"), (PARAMETERS, "1.2", "2"), (PARAMETERS, "2", "1.2")]
    assert again(folder, edits=edits) == [["clean"], ["total"], []]  # at the end, the first version is taken


def test_a_run_with_nothing_to_do_loads_nothing(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    assert ran(loaded, folder) == []


def test_what_leaves_nothing_runs_once(tmp_path):
    folder = make_project(tmp_path, "files")
    nodes = """Node(total, ["cleaned", "params:rate"], "totals", name="total"),
        Node(lambda totals, title: print(title), ["totals", "params:title"], None, name="show"),
        Node(lambda totals: totals, "totals", "halved", name="halve"),
        Node(lambda halved: len(halved), "halved", "days", name="count"),"""
    edit(
        folder,
        "src/shop/pipeline_registry.py",
        'Node(total, ["cleaned", "params:rate"], "totals", name="total"),',
        nodes,
    )
    edit(folder, "conf/base/catalog.yml", "cleaned: {type: pandas.ParquetDataset", "cleaned: {type: shop.untold.Untold")
    (folder / "src/shop/untold.py").write_text(UNTOLD)
    title, rate = (PARAMETERS, "sales", "turnover"), (PARAMETERS, "1.2", "2")
    every = ["clean", "total", "show", "halve", "count"]
    sessions = again(folder, edits=[None, None, title, rate])
    assert not isinstance(sessions, str), sessions
    assert [sorted(each) for each in sessions] == [sorted(every), [], ["show"], sorted(every[1:])]


def test_a_notebook_sees_an_edit_once_it_reloads_the_project(tmp_path):
    edits = [None, ("src/shop/prices.py", "round(1)", "round()"), None]
    assert again(make_project(tmp_path), by_notebook, edits) == [["clean", "total"], ["total"], []]


def test_parameters_are_those_that_kedro_finds(tmp_path):
    folder = make_project(tmp_path)
    for name, text in {
        "base/parameters.yml": "rate: ${runtime_params:rate, 1.2}\n",
        "base/parameters/more.yml": "title: sales\n",
        "base/parameters_other.yaml": "champion: xgboost\n",
        "local/parameters.yml": "only_here: 1\n",
    }.items():
        (folder / "conf" / name).parent.mkdir(exist_ok=True)
        (folder / "conf" / name).write_text(text)
    assert ran(by_settings, folder) == ["clean", "total"]


def test_a_pattern_for_any_name_has_no_manifest_saved(tmp_path):
    folder = make_project(tmp_path)
    with (folder / "conf/base/catalog.yml").open("a") as catalog:
        catalog.write('"{name}": {type: pandas.CSVDataset, filepath: "data/{name}.csv"}\n')
    assert ran(by_settings, folder) == ["clean", "total"]
    assert not (folder / "data/run_manifest.csv").exists()


def test_a_clone_takes_what_another_one_has_put_into_the_cache(tmp_path):
    one, other, third = (make_project(tmp_path / name) for name in ("one", "other", "third"))
    for folder in (one, other, third):
        (folder / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/cache\n")
    assert ran(by_settings, one) == ["clean", "total"]
    edits = [None, (PARAMETERS, "1.2", "2"), (PARAMETERS, "2", "1.2")]
    assert again(other, edits=edits) == [[], ["total"], []]
    files = sorted((other / "data/03_primary/totals.parquet").glob("*/totals.parquet"))
    # The third is the first again, to which it is linked; the cache's own files are nobody's.
    assert [file.stat().st_nlink for file in files] == [2, 1, 2]
    assert again(one, edits=[(PARAMETERS, "1.2", "2")]) == [[]]
    [damaged] = tmp_path.glob("cache/*/cleaned/*/*/cleaned.parquet")
    damaged.write_bytes(b"of somebody else")
    assert again(third) == [["clean"]]


def test_a_fresh_clone_takes_what_fits_without_a_lock_file(tmp_path):
    origin, clone = make_project(tmp_path / "origin"), tmp_path / "clone"
    (origin / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/cache\n")
    git = ["git", "-C", str(origin), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "sources"]):
        subprocess.run([*git, *command], check=True)
    assert ran(by_settings, origin) == ["clean", "total"]
    subprocess.run(["git", "clone", "-q", str(origin), str(clone)], check=True)
    shutil.rmtree(origin)
    assert [path.name for path in (clone / "data").rglob("*") if path.is_file()] == ["orders.csv"]
    assert again(clone, edits=[None, (PARAMETERS, "1.2", "2"), (ORDERS, "2,5", "2,6.4")]) == [
        [], ["total"], ["clean", "total"]
    ]  # fmt: skip
    first = min((clone / "data/03_primary/totals.parquet").iterdir())
    shown = ran(commanded, clone, f"show totals --version {first.name} --json")[0]
    assert {each["entry"] for each in shown["lineage"]} == {"orders", "cleaned"}


def test_a_cache_is_only_read_where_it_is_read_only_and_else_old_versions_can_be_removed(tmp_path):
    one, reader = (make_project(tmp_path / name) for name in ("one", "reader"))
    (one / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/cache\n")
    (reader / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/cache\ncache_read_only: true\n")
    assert ran(by_settings, one) == ["clean", "total"]
    shared = {*tmp_path.glob("cache/*/*/*/*")}
    assert again(reader, edits=[None, (PARAMETERS, "1.2", "2")]) == [[], ["total"]]
    assert {*tmp_path.glob("cache/*/*/*/*")} == shared
    assert "nothing is changed in the cache" in ran(commanded, reader, "gc --cache --keep 1")[0]
    assert again(one, edits=[(PARAMETERS, "1.2", "3")]) == [["total"]]
    own = {*one.glob("data/0*/*/*")}
    [old] = [folder for folder in shared if folder.parent.name == "totals.parquet"]
    [would] = ran(commanded, one, "gc --cache --keep 1 --json")
    assert [each["address"] for each in would["would_remove"]] == [str(old)]
    ran(commanded, one, "gc --cache --keep 1 --yes")
    assert not old.exists()
    assert {*one.glob("data/0*/*/*")} == own


def test_a_cache_with_a_key_gives_what_was_signed_by_it_alone(tmp_path):
    stranger, one, two = (make_project(tmp_path / name) for name in ("stranger", "one", "two"))
    for folder in (stranger, one, two):
        (folder / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/cache\n")
    for folder in (one, two):
        (folder / "conf/local/credentials.yml").write_text("cache:\n  key: a secret\n")
    assert (ran(by_settings, stranger), again(one), again(two)) == (["clean", "total"], [["clean", "total"]], [[]])
    (two / "conf/local/credentials.yml").write_text("cache:\n  key: ''\n")
    assert "is not a text, or is empty. Set it to the text that signs" in ran(by_settings, two)


def test_a_run_whose_clock_was_set_back_is_refused_as_older_results_would_hide_its_own(tmp_path):
    folder = make_project(tmp_path)
    ran(by_settings, folder)
    edit(folder, PARAMETERS, "1.2", "2")
    refused = ran(with_clock_set_back, folder, is_checked=True)
    assert "Newer versions exist" in refused
    assert "A clock was ahead when they were saved, or was set back since" in refused
    assert len([*folder.glob("data/03_primary/totals.parquet/*")]) == 1
    assert ran(with_clock_set_back, folder, is_checked=False) == [6, 6]  # of 1.2, though 2 was computed last
    assert len([*folder.glob("data/03_primary/totals.parquet/*")]) == 2


@pytest.mark.parametrize("kind", ["versions", "files"])
def test_a_killed_run_resumes(tmp_path, kind):
    folder = make_project(tmp_path, kind)
    assert ran(by_settings, folder, die_in="total") is None
    assert ran(by_settings, folder) == ["total"]
    assert ran(by_settings, folder) == ["clean", "total"]  # that one ended, so all runs again


def test_a_run_after_one_that_failed_is_a_full_run(tmp_path):
    folder = make_project(tmp_path)
    edit(folder, ORDERS, "day", "date")
    assert "KeyError" in ran(by_settings, folder)
    edit(folder, ORDERS, "date", "day")
    assert ran(by_settings, folder) == ["clean", "total"]


def test_a_file_without_versions_that_others_wrote_is_made_again(tmp_path):
    folder = make_project(tmp_path, "files")
    ran(by_settings, folder)
    pd.DataFrame({"day": [1], "price": [7]}).to_parquet(folder / "data/02_intermediate/cleaned.parquet")
    assert again(folder) == [["clean"]]  # which comes out as it was


@pytest.mark.parametrize("runner", [None, "SequentialRunner"])
def test_a_plain_session_leaves_what_results_are_made_of(tmp_path, runner):
    folder = make_project(tmp_path)
    assert ran(by_kedro, folder, runner=runner) == ["clean", "total"]
    [file] = folder.glob(f"data/03_primary/totals.parquet/*/{FILE}")
    stored = json.loads(file.read_text())
    assert stored["recipe"]["parameters"] == {"rate": 1.2}
    assert [each.entry for each in read_version(file.parent).lineage] == ["orders", "cleaned"]


def test_a_task_of_airflow_runs_in_the_folder_of_the_project(tmp_path):
    folder = make_project(tmp_path)
    edit(
        folder,
        "src/shop/cleaning.py",
        "    return",
        "    assert __import__('pathlib').Path('src/shop').is_dir()\n    return",
    )
    assert [ran(by_airflow, folder, node) for node in ("clean", "total")] == [["clean"], ["total"]]
    assert again(folder) == [[]]
    assert "no version in" in ran(by_airflow, make_project(tmp_path / "other"), "total")


def test_a_server_runs_one_request_after_the_other(tmp_path):
    folder = make_project(tmp_path)
    only_missing = {"only_missing_outputs": True}
    requests = [{}, only_missing, only_missing | {"params": {"rate": 3}}]
    assert ran(by_server, folder, *requests) == ["clean", "total", "total"]
    assert again(folder) == [[]]  # the first version is taken


def test_a_runner_that_works_in_processes_is_refused(tmp_path):
    assert "does not run with ParallelRunner" in ran(by_kedro, make_project(tmp_path), runner="ParallelRunner")
    assert not (tmp_path / "data/.run.lock").exists()


ELSEWHERE = """
import os
from multiprocessing import parent_process
from pathlib import Path


def elsewhere(orders):
    assert parent_process(), "not in a process of its own"
    Path("data/opened.txt").read_text()
    return orders


def in_parts(orders):
    assert not os.environ.get("NEVER")
    yield orders
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_functions_run_in_processes_of_which_this_one_records(tmp_path, start, monkeypatch):
    monkeypatch.setenv("KEDRO_MP_CONTEXT", start)
    folder = make_project(tmp_path)
    (folder / "data/opened.txt").write_text("")
    (folder / "src/shop/elsewhere.py").write_text(ELSEWHERE)
    nodes = 'Node(elsewhere, "cleaned", "left", name="elsewhere"), Node(in_parts, "left", "parts", name="in_parts")'
    registry = "src/shop/pipeline_registry.py"
    edit(folder, registry, "    ]\n", f"        {nodes},\n    ]\n")
    edit(folder, registry, "from shop.totals", "from shop.elsewhere import elsewhere, in_parts\nfrom shop.totals")
    edit(folder, "src/shop/settings.py", "ProvenanceHooks()", "ProvenanceHooks(audit=True)")
    assert ran(in_processes, folder) == ["in_parts"]  # which cannot be sent; all others run elsewhere
    stored = [read_version(file.parent) for file in folder.glob(f"data/*/*/*/{FILE}")]
    assert sorted(each.recipe.node for each in stored if each.is_intact) == ["clean", "total"]
    assert start == "spawn" or ran(commanded, folder, "audit --json")[0]["elsewhere"]
    edit(folder, PARAMETERS, "1.2", "2")
    assert ran(in_processes, folder, only_missing_outputs=True) == []  # as total runs elsewhere
    assert len([*folder.glob(f"data/03_primary/*/*/{FILE}")]) == 2
    assert again(folder, by_settings) == [["elsewhere", "in_parts"]]  # what yields in parts always runs


@pytest.mark.parametrize("kind", ["versions", "files", "no entry", "table"])
def test_threads_run_what_is_out_of_date_and_record_it(tmp_path, kind):
    folder, count = make_project(tmp_path, kind), 12
    wide = "".join(
        f'Node(total, ["cleaned", "params:rate"], "sum_{each}", name="sum_{each}"), ' for each in range(count)
    )
    old = 'Node(total, ["cleaned", "params:rate"], "totals", name="total"),'
    edit(folder, "src/shop/pipeline_registry.py", old, f"{old} {wide}")
    with (folder / "conf/base/catalog.yml").open("a") as catalog:
        catalog.write('\n"sum_{name}": {type: pandas.ParquetDataset, filepath: "data/03_primary/{name}.pq", ')
        catalog.write(f"versioned: {str(kind != 'files').lower()}}}\n")
    sums = ["total", *(f"sum_{each}" for each in range(count))]
    in_threads = {"runner": "ThreadRunner", "only_missing_outputs": True}
    first = ran(by_kedro, folder, **in_threads)
    assert not isinstance(first, str), first
    assert sorted(first) == sorted(["clean", *sums])
    assert ran(by_kedro, folder, **in_threads) == again(folder)[0] == []
    edit(folder, "src/shop/prices.py", "round(1)", "round()")
    of_sums = ["clean", *sums] if kind == "no entry" else sums
    assert sorted(ran(by_kedro, folder, **in_threads)) == sorted(of_sums)
    assert again(folder) == [[]]
    [newest, *_] = sorted(folder.glob("data/03_primary/totals.parquet*/*/totals.parquet"), reverse=True) or [
        folder / "data/03_primary/totals.parquet"
    ]
    assert pd.read_parquet(newest).price.tolist() == [6, 6]
