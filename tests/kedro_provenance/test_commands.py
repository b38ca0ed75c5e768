"""The commands of `kedro provenance`, and the plug-in's own wheel in a project that knows nothing of this one."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hatchling.builders.wheel import WheelBuilder
from kedro.pipeline import Node, Pipeline
from kedro_viz.api.rest.responses.run_events import transform_events_to_structured_format

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.digests import digest
from kedro_provenance.recipe import FILE
from kedro_provenance.tracing import with_makers
from small_project import by_kedro, by_settings, commanded, edit, erase_and_die, make_project, ran

ROOT = Path(__file__).parents[2]


def test_commands_say_what_is_out_of_date_and_what_it_was_made_of(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    [first] = [path.name for path in (folder / "data/03_primary/totals.parquet").iterdir()]
    edit(folder, "src/shop/prices.py", "round(1)", "round()")
    reason = "its code: shop.prices.rounded changed"
    plan, why, shown, unknown, viz = ran(
        commanded, folder, "plan --json", "why total", "show totals --json", "why totla --json", "viz --json"
    )
    assert [(each["node"], each["reasons"]) for each in plan] == [("clean", []), ("total", [reason])]
    assert why == f"total runs\n  {reason}\n"
    assert (shown["version"], shown["recipe"]["node"]) == (first, "total")
    assert {each["entry"] for each in shown["lineage"]} == {"orders", "cleaned"}
    assert "totla is not a node of these pipelines, which have clean, total" in unknown
    status = transform_events_to_structured_format(json.loads(Path(viz["file"]).read_text()))
    nodes = {each.status.value: each.error and each.error.message for each in status.nodes.values()}
    assert nodes == {"success": None, "failed": f"Out of date: {reason}"}
    datasets = {each.name: (each.status.value, each.size > 0) for each in status.datasets.values()}
    assert datasets == {"orders": ("success", False), "cleaned": ("success", True), "totals": ("failed", False)}
    assert status.pipeline.error.message == "1 of 2 nodes are out of date"
    assert ran(by_settings, folder, only_missing_outputs=True) == ["total"]
    second = max(path.name for path in (folder / "data/03_primary/totals.parquet").iterdir())
    of_first = sum(file.stat().st_size for file in (folder / "data/03_primary/totals.parquet" / first).iterdir())
    compared, equal, no_run, kept, removed, forced, again = ran(
        commanded, folder, f"diff {first} {second} --json", f"diff {second} {second}", f"diff {first} 2020-01-01",
        "gc --keep 1", "gc --keep 1 --yes --json",
        "force clean --json", "plan --json",
    )  # fmt: skip
    assert compared == {"totals": [reason]}
    assert equal == "Their results are equal.\n"
    assert "There is no result of a run 2020-01-01. The newest runs with results are: " in no_run
    assert second in no_run
    assert f"totals: {of_first:,} bytes\n1 versions, {of_first:,} bytes, would go: add --yes" in kept
    assert [each["version"] for each in removed["removed"]] == [first]
    assert removed["bytes"] == {"totals": of_first}
    assert [path.name for path in (folder / "data/03_primary/totals.parquet").iterdir()] == [second]
    assert forced == {"forced": ["clean"]}
    assert again[0]["reasons"] == ["it was named by `kedro provenance force`"]
    assert ran(by_settings, folder, only_missing_outputs=True) == ["clean"]  # which comes out as it was
    assert ran(by_settings, folder, only_missing_outputs=True) == []


def test_results_are_traced_both_ways_also_from_a_file_in_hand(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    [first] = [path.name for path in (folder / "data/03_primary/totals.parquet").iterdir()]
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    assert ran(by_settings, folder, only_missing_outputs=True) == ["clean", "total"]
    second = max(path.name for path in (folder / "data/03_primary/totals.parquet").iterdir())
    file = f"data/03_primary/totals.parquet/{first}/totals.parquet"
    shown, up, by_orders, by_totals, unknown, said = ran(
        commanded, folder,
        f"show {file} --json", f"trace {folder / file} --json", "trace data/01_raw/orders.csv --down --json",
        "trace totals --down", "trace README.md", "trace orders --down",
    )  # fmt: skip
    assert (shown["version"], shown["is_intact"]) == (first, True)
    assert [(each["entry"], each["node"], each["run"]) for each in up] == [
        ("orders", None, None),
        ("cleaned", "clean", first),
    ]
    assert up[0]["content"] != ran(commanded, folder, "trace totals --json")[0][0]["content"]
    assert {(each["entry"], each["version"], each["is_of_these"]) for each in by_orders} == {
        (entry, version, version == second) for entry in ("cleaned", "totals") for version in (first, second)
    }
    assert by_totals == "Nothing is recorded that was made of totals.\n"
    assert "README.md is neither an entry of the catalog nor a file" in unknown
    assert f"totals {second}  by total\n" in said
    assert all(
        f"{entry} {first}" in said.partition("of earlier data of orders: ")[2] for entry in ("cleaned", "totals")
    )


def test_a_run_is_made_again_or_what_differs_is_named(tmp_path):
    folder = make_project(tmp_path)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "src"], ["commit", "-q", "-m", "shop"]):
        subprocess.run([*git, *command], check=True)
    assert ran(by_settings, folder) == ["clean", "total"]
    totals = folder / "data/03_primary/totals.parquet"
    [first] = totals.iterdir()
    edit(folder, "conf/base/parameters.yml", "1.2", "2")
    edit(folder, "src/shop/prices.py", "round(1)", "round()")
    assert ran(by_settings, folder, only_missing_outputs=True) == ["total"]
    second = max(totals.iterdir())
    refused, unknown = ran(commanded, folder, f"rerun {first.name}", "rerun 2020-01-01")
    assert "total: its code: shop.prices.rounded changed" in refused
    assert "Its code is that of git revision " in refused
    assert "There is no result of a run 2020-01-01" in unknown
    edit(folder, "src/shop/prices.py", "round()", "round(1)")
    assert ran(commanded, folder, f"rerun {first.name} --json") == [{"cleaned": True, "totals": True}]
    newest = max(totals.iterdir())
    assert len([*totals.iterdir()]) == 3
    assert newest.joinpath("totals.parquet").read_bytes() == first.joinpath("totals.parquet").read_bytes()
    edit(folder, "src/shop/prices.py", "round(1)", "round()")
    assert ran(commanded, folder, f"rerun {second.name} --json") == [{"totals": True}]  # from an earlier `cleaned`
    edit(folder, "src/shop/prices.py", "round()", "round(1)")
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    assert "clean: orders: other content than it was made of" in ran(commanded, folder, f"rerun {first.name}")[0]
    assert len([*totals.iterdir()]) == 4


def test_what_is_held_in_memory_alone_is_made_again_once_for_its_readers(monkeypatch):
    split = Node(lambda rows: (rows, rows), "rows", ["train", "test"], name="split")
    fit = Node(lambda train, test: train, ["train", "test"], "model", name="fit")
    monkeypatch.setattr("kedro_provenance.tracing.all_pipelines", lambda: {"a": Pipeline([split, fit])})
    assert with_makers([fit], SimpleNamespace(catalog=AtomicCatalog())) == ["fit", "split"]


def test_init_writes_the_plugin_into_settings_beside_what_is_there(tmp_path):
    folder = make_project(tmp_path)
    settings = folder / "src/shop/settings.py"
    written = settings.read_text()
    assert "settings.py has the plug-in" in ran(commanded, folder, "init")[0]
    assert settings.read_text() == written
    settings.write_text("from kedro.framework.session import KedroSession\n\nSESSION_CLASS = KedroSession\n")
    assert "has SESSION_CLASS. Nothing was written" in ran(commanded, folder, "init")[0]
    settings.write_text("class Quiet:\n    changes_results = False\n\n\n# SESSION_CLASS = None\nHOOKS = (Quiet(),)\n")
    assert ran(by_kedro, folder) == ["clean", "total"]
    assert "settings.py has the plug-in" in ran(commanded, folder, "init")[0]
    assert ran(by_kedro, folder) == ["clean", "total"]
    assert ran(by_kedro, folder, only_missing_outputs=True) == []
    assert settings.read_text().endswith("HOOKS = (*HOOKS, ProvenanceHooks())\n")


UNCERTAIN = """
import runpy
import threading

from kedro.pipeline import Node, Pipeline

from shop.cleaning import clean
from shop.totals import total


def parts(orders):
    yield orders


def script(orders):
    return runpy.run_path("script.py")["run"](orders)


def register_pipelines():
    return {"__default__": Pipeline([
        Node(clean, "orders", "cleaned", name="clean"),
        Node(total, ["cleaned", "params:rate"], "totals", name="total"),
        Node(parts, "orders", "in_parts", name="parts"),
        Node(script, "orders", "scripted", name="script"),
        Node(lambda orders: object(), "orders", "things", name="keep"),
    ])}
"""
KEEPING = """
from kedro.io import AbstractDataset


class Keeping(AbstractDataset):
    kept = ["anything"]

    def _load(self):
        return self.kept

    def _save(self, data):
        pass

    def _describe(self):
        return {}
"""


def test_init_names_the_nodes_that_will_always_run(tmp_path):
    folder = make_project(tmp_path)
    (folder / "src/shop/pipeline_registry.py").write_text(UNCERTAIN)
    (folder / "src/shop/keeping.py").write_text(KEEPING)
    with (folder / "conf/base/catalog.yml").open("a") as catalog:
        catalog.write(
            "things: {type: shop.keeping.Keeping}\nin_parts: {type: json.JSONDataset, filepath: data/a.json}\n"
        )
    always = ran(commanded, folder, "init --json")[0]["always_run"]
    assert {node for node, reasons in always.items() if reasons} == {"parts", "script", "keep"}
    assert "yields its outputs in parts" in always["parts"][0]
    assert "runs code by run_path" in always["script"][0]
    assert always["keep"] == ["nothing tells whether the data of things are as they were"]
    assert "keep will always run: nothing tells whether" in ran(commanded, folder, "init")[0]


@pytest.mark.parametrize("is_recorded", [True, False])
def test_init_moves_files_of_entries_that_got_versions(tmp_path, is_recorded):
    folder = make_project(tmp_path, "files")
    place, old = folder / "data/02_intermediate/cleaned.parquet", (folder / "src/shop/settings.py").read_text()
    if not is_recorded:
        (folder / "src/shop/settings.py").write_text("")
    assert ran(by_kedro, folder) == ["clean", "total"]
    (folder / "src/shop/settings.py").write_text(old)
    content = place.read_bytes()
    assert ran(commanded, folder, "init --json")[0]["moved"] == {}
    edit(folder, "conf/base/catalog.yml", "cleaned.parquet", "cleaned.parquet, versioned: true")
    assert "a file with the same name already exists" in ran(by_settings, folder)
    moved = ran(commanded, folder, "init --json")[0]["moved"]
    [version] = place.iterdir()
    assert moved == {str(place): f"{version}/cleaned.parquet"}
    assert Path(moved[str(place)]).read_bytes() == content
    assert {path.name for path in place.parent.iterdir()} == {"cleaned.parquet"}
    [plan] = ran(commanded, folder, "plan --json")
    assert plan[0]["reasons"] == ([] if is_recorded else ["nothing says what cleaned was made of"])
    assert "clean" in ran(by_settings, folder)
    assert sorted(place.iterdir())[0] == version


def test_init_moves_nothing_onto_what_is_there_and_goes_on_after_a_kill(tmp_path):
    folder = make_project(tmp_path, "files")
    ran(by_settings, folder)
    edit(folder, "conf/base/catalog.yml", "cleaned.parquet", "cleaned.parquet, versioned: true")
    place = folder / "data/02_intermediate/cleaned.parquet"
    draft, content = place.with_name(".cleaned.parquet.versions"), place.read_bytes()
    draft.mkdir()
    assert f"{draft}'. Nothing was moved." in ran(commanded, folder, "init")[0]
    assert place.read_bytes() == content
    (draft / "2026-01-30T09.30.00.000Z").mkdir()
    place.rename(draft / "2026-01-30T09.30.00.000Z/cleaned.parquet")  # as a kill leaves it
    ran(commanded, folder, "init")
    assert (place / "2026-01-30T09.30.00.000Z/cleaned.parquet").read_bytes() == content
    assert not draft.exists()


def test_gc_removes_the_lineage_that_no_record_names(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    lineage = folder / "data/.provenance/lineage"
    before = {*lineage.iterdir()}
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    assert ran(by_settings, folder, only_missing_outputs=True) == ["clean", "total"]
    after = {*lineage.iterdir()} - before
    assert len(before) == len(after) == 2  # the orders and what was made of them
    ran(commanded, folder, "gc --keep 2 --yes")
    assert {*lineage.iterdir()} == before | after
    ran(commanded, folder, "gc --keep 1 --yes")
    assert {*lineage.iterdir()} == after
    assert ran(by_settings, folder, only_missing_outputs=True) == []


def test_gc_counts_a_file_with_links_once_none_of_them_is_left(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    for old, new, made in (("1.2", "2", ["total"]), ("2", "1.2", [])):
        edit(folder, "conf/base/parameters.yml", old, new)
        assert ran(by_settings, folder, only_missing_outputs=True) == made
    [first, second, third] = sorted((folder / "data/03_primary/totals.parquet").iterdir())
    data, record = (
        [path.joinpath(name).stat() for path in (first, second, third)] for name in ("totals.parquet", FILE)
    )
    assert data[0].st_ino == data[2].st_ino
    records = sum(each.st_size for each in record[:2])
    sizes = [each["bytes"] for each in ran(commanded, folder, "gc --keep 1 --json", "erase totals --json")]
    both = {"totals": records + data[1].st_size}
    assert sizes == [both, {"totals": both["totals"] + record[2].st_size + data[0].st_size}]


ERASE = "erase data/01_raw/orders.csv"


def contents(folder):
    """All files of the data by path, without records and certificates, which change with what they tell of."""
    files = (file for file in (folder / "data").rglob("*") if file.is_file() and "provenance" not in str(file))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if not file.name.startswith(".run")}


@pytest.mark.parametrize("kind", ["versions", "files", "memory", "cached"])
def test_erase_removes_what_was_made_of_earlier_data_and_nothing_else(tmp_path, kind):
    folder = make_project(tmp_path, kind)
    (folder / "conf/base/globals.yml").write_text(f"cache: {tmp_path}/data/cache\n")
    assert ran(by_settings, folder) == ["clean", "total"]
    assert ran(commanded, folder, f"{ERASE} --json") == [
        {"would_remove": [], "bytes": {}}
    ]  # what is now is its owner's
    before = contents(folder)
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    if kind in ("versions", "memory"):
        assert ran(by_settings, folder, only_missing_outputs=True) == ["clean", "total"]
    after = contents(folder)
    listed, preview = ran(commanded, folder, f"{ERASE} --json", ERASE)
    assert contents(folder) == after
    assert "would go: add --yes" in preview
    for _ in range(2):
        assert ran(erase_and_die, folder, f"{ERASE} --yes", 1) is None
    [said] = ran(commanded, folder, f"{ERASE} --yes --json")
    left = contents(folder)
    of_now = {"data/01_raw/orders.csv": after["data/01_raw/orders.csv"]}
    of_now |= {name: content for name, content in after.items() if name not in before}
    assert left == of_now
    assert {each["entry"] for each in listed["would_remove"]} >= {"totals"}
    certificates = [json.loads(file.read_bytes()) for file in sorted(folder.glob("data/.provenance/erased/*.json"))]
    assert [each["finished"] for each in certificates] == [False, False, True]
    assert {each["address"] for each in certificates[0]["removed"]} == {
        each["address"] for each in listed["would_remove"]
    }
    assert certificates[-1]["removed"] == said["removed"]
    assert certificates[-1].pop("digest_of_the_above") == digest(certificates[-1])
    assert ran(commanded, folder, f"{ERASE} --json") == [{"would_remove": [], "bytes": {}}]
    again = ran(by_settings, folder, only_missing_outputs=True)
    assert again == ([] if kind in ("versions", "memory") else ["clean", "total"])


def test_erase_of_a_version_takes_along_what_was_made_of_it(tmp_path):
    folder = make_project(tmp_path)
    assert ran(by_settings, folder) == ["clean", "total"]
    edit(folder, "conf/base/parameters.yml", "1.2", "2")
    assert ran(by_settings, folder, only_missing_outputs=True) == ["total"]
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    assert ran(by_settings, folder, only_missing_outputs=True) == ["clean", "total"]
    [first, second, third] = sorted(path.name for path in (folder / "data/03_primary/totals.parquet").iterdir())
    listed, of_totals, unknown = ran(
        commanded, folder,
        f"erase cleaned --version {first} --json", f"erase totals --version {second} --yes --json", "erase sums",
    )  # fmt: skip
    assert {(each["entry"], each["version"]) for each in listed["would_remove"]} == {
        ("cleaned", first), ("totals", first), ("totals", second)
    }  # fmt: skip
    assert [(each["entry"], each["version"]) for each in of_totals["removed"]] == [("totals", second)]
    assert "sums is neither an entry of the catalog nor a file" in unknown
    assert sorted(path.name for path in (folder / "data/03_primary/totals.parquet").iterdir()) == [first, third]
    [of_cleaned] = ran(commanded, folder, "erase cleaned --yes --json")
    assert {each["entry"] for each in of_cleaned["removed"]} == {"cleaned", "totals"}
    assert [*contents(folder)] == ["data/01_raw/orders.csv"]


def test_erase_refuses_before_it_removes_anything(tmp_path):
    folder = make_project(tmp_path, "table")
    assert ran(by_settings, folder) == ["clean", "total"]
    edit(folder, "data/01_raw/orders.csv", "2,5", "2,6.4")
    before = contents(folder)
    [refused] = ran(commanded, folder, f"{ERASE} --yes")
    assert "cleaned lies in no local file: remove it there" in refused
    assert "Nothing was erased." in refused
    assert contents(folder) == before
    assert not (folder / "data/.provenance/erased").exists()


AUDITED = """
from pathlib import Path

from codeprint import depends


@depends(files=["conf/known.txt"])
def total(orders, rate):
    import importlib

    Path("conf/known.txt").read_text()
    open("data/unknown.txt").close()
    Path("data/written.txt").write_text("x")
    importlib.import_module("ra" + "tes")
    return orders.groupby("day", as_index=False).price.sum() * rate
"""


@pytest.mark.parametrize("runner", [None, "ThreadRunner"])
def test_an_audit_names_what_nodes_open_and_their_recipes_lack(tmp_path, runner):
    folder = make_project(tmp_path)
    for name in ("conf/known.txt", "data/unknown.txt", "src/rates.py"):
        (folder / name).write_text("")
    (folder / "src/shop/totals.py").write_text(AUDITED)
    assert ran(by_kedro, folder) == ["clean", "total"]
    assert ran(commanded, folder, "audit --json") == [{}]
    edit(folder, "src/shop/settings.py", "ProvenanceHooks()", "ProvenanceHooks(audit=True)")
    assert sorted(ran(by_kedro, folder, runner=runner)) == ["clean", "total"]
    noted, said = ran(commanded, folder, "audit --json", "audit")
    assert noted == {"total": [str(folder / "data/unknown.txt"), str(folder / "src/rates.py")]}
    assert f"total: {folder / 'src/rates.py'}" in said
    edit(folder, "src/shop/totals.py", '"conf/known.txt"]', '"conf/known.txt", "data/unknown.txt"]')
    edit(folder, "src/shop/totals.py", "import importlib", "import rates")
    edit(folder, "src/shop/totals.py", 'importlib.import_module("ra" + "tes")', "rates")
    assert sorted(ran(by_kedro, folder, runner=runner)) == ["clean", "total"]
    assert ran(commanded, folder, "audit --json") == [{}]


THREADS = """
from pathlib import Path
from threading import Barrier

from kedro.pipeline import Node, Pipeline

begun, opened = Barrier(2, timeout=60), Barrier(2, timeout=60)


def reading(name):
    def read(orders):
        begun.wait()
        Path(f"data/{name}.txt").read_text()
        opened.wait()
        return orders

    return read


def register_pipelines():
    nodes = [
        Node(reading(each), "orders", each, name=each) for each in ("left", "right")
    ]
    return {"__default__": Pipeline(nodes)}
"""


def test_an_audit_tells_threads_apart(tmp_path):
    folder = make_project(tmp_path)
    for name in ("left", "right"):
        (folder / f"data/{name}.txt").write_text("")
    (folder / "src/shop/pipeline_registry.py").write_text(THREADS)
    edit(folder, "src/shop/settings.py", "ProvenanceHooks()", "ProvenanceHooks(audit=True)")
    assert sorted(ran(by_kedro, folder, runner="ThreadRunner")) == ["left", "right"]
    noted = {name: [str(folder / f"data/{name}.txt")] for name in ("left", "right")}
    assert ran(commanded, folder, "audit --json") == [noted]


RUN = """
import sys
from pathlib import Path
import codeprint, kedro_provenance
for package in (codeprint, kedro_provenance):
    assert Path(package.__file__).is_relative_to(sys.argv[1]), package.__file__
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node
bootstrap_project(Path.cwd())
run, ran = Node.run, []
Node.run = lambda node, inputs: ran.append(node.name) or run(node, inputs)
for _ in range(2):
    with KedroSession.create(Path.cwd()) as session:
        session.run(only_missing_outputs=True)
    print("ran", ran)
    ran.clear()
assert not {"torch", "polars", "reclora_kedro"} & sys.modules.keys()
"""


def test_its_own_wheel_serves_a_project_without_the_recommender(tmp_path):
    site = tmp_path / "site-packages"
    for name in ("codeprint", "kedro_provenance"):
        [wheel] = WheelBuilder(str(ROOT / "src" / name)).build(directory=str(tmp_path / "wheel"))
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
    folder = make_project(tmp_path / "shop")
    command = [sys.executable, "-c", RUN, str(site)]
    environment = os.environ | {"PYTHONPATH": str(site)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    said = [line for line in ended.stdout.splitlines() if line.startswith("ran")]
    assert said == ["ran ['clean', 'total']", "ran []"]
