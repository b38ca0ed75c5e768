"""Nodes that work by partition run for new and changed partitions alone, and leave what a run of everything does."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import kedro_provenance
from small_project import by_kedro, by_settings, edit, in_processes, loaded, make_project, ran

CODE = """
import os
import signal
from pathlib import Path

from kedro_provenance.plugin import by_partition

LENGTH = 3


def made(day, load, rate):
    if Path("die").exists() and Path("die").read_text() == day:
        os.kill(os.getpid(), signal.SIGKILL)
    return load()[:LENGTH] * rate


@by_partition
def clean(days, rate, names):
    with open("calls.txt", "a") as calls:
        print(*sorted(days), file=calls)
    if Path("foreign").exists():
        return {"a": "foreign"}
    return {day + names.strip(): MAKE for day, load in days.items() if load() != "nothing"}


@by_partition
def count(cleaned):
    with open("counts.txt", "a") as calls:
        print(*sorted(cleaned), file=calls)
    return {day: str(len(load())) for day, load in cleaned.items()}
"""
REGISTRY = """
from kedro.pipeline import Node, Pipeline

from shop.days import clean, count


def register_pipelines():
    nodes = [
        Node(clean, ["days", "params:rate", "names"], "cleaned", name="clean"),
        Node(count, "cleaned", "counts", name="count"),
        Node(lambda counts: " ".join(sorted(counts)), "counts", "all", name="all"),
    ]
    return {"__default__": Pipeline(nodes)}
"""
CATALOG = """
names: {type: text.TextDataset, filepath: data/01_raw/names.txt}
days: {type: partitions.PartitionedDataset, path: data/01_raw/days, dataset: text.TextDataset, filename_suffix: .txt}
cleaned: {type: partitions.PartitionedDataset, path: data/02_intermediate/days, dataset: text.TextDataset}
counts:
  type: partitions.PartitionedDataset
  path: data/03_primary/counts
  dataset: {type: text.TextDataset}
  filename_suffix: .n
all: {type: text.TextDataset, filepath: data/03_primary/all.txt, versioned: true}
"""
RAW, CLEANED = "data/01_raw/days", "data/02_intermediate/days"
OWN = """
from kedro_datasets import partitions


class PartitionedDataset(partitions.PartitionedDataset):
    pass
"""
MADE = {"at once": "made(day, load, rate)", "lazily": "lambda day=day, load=load: made(day, load, rate)"}
ONLY = {"only_missing_outputs": True}


def put(folder, day, text):
    """Give a day a text, or remove it."""
    file = folder / RAW / f"{day}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)


@pytest.fixture
def shop(tmp_path):
    """A project whose partitions a, b/c and d are cleaned and counted."""
    folder = make_project(tmp_path / "shop")
    (folder / "src/shop/days.py").write_text(CODE.replace("MAKE", MADE["lazily"]))
    (folder / "src/shop/pipeline_registry.py").write_text(REGISTRY)
    (folder / "conf/base/catalog.yml").write_text(CATALOG)
    edit(folder, "conf/base/parameters.yml", "1.2", "2")
    (folder / "data/01_raw/names.txt").write_text("")
    for day in ("a", "b/c", "d"):
        put(folder, day, f"{day} is long")
    assert ran(by_settings, folder) == ["clean", "count", "all"]
    assert calls(folder) == (["a b/c d"], ["a b/c d"])
    return folder


def calls(folder):
    """The partitions that each node was given, by call since this was asked last."""
    files = [folder / "calls.txt", folder / "counts.txt"]
    said = tuple(file.read_text().splitlines() if file.exists() else [] for file in files)
    for file in files:
        file.unlink(missing_ok=True)
    return said


def files_in(folder):
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".json"
    }


def results(folder):
    """The partitions that the nodes have left, by file."""
    return [files_in(folder / name) for name in (CLEANED, "data/03_primary/counts")]


def clean_results(folder):
    """Those of a run of everything in a project that has none."""
    other = shutil.copytree(folder, folder.with_name(f"other-{len([*folder.parent.iterdir()])}"))
    for leftover in ("data/.provenance", "data/02_intermediate", "data/03_primary", "data/.running.json", "die"):
        path = other / leftover
        (shutil.rmtree if path.is_dir() else Path.unlink)(path) if path.exists() else None
    assert ran(by_settings, other) == ["clean", "count", "all"]
    return results(other)


EDITS = {
    "nothing": ({}, [], []),
    "a new one": ({"b/e": "new"}, ["b/e"], ["b/e"]),
    "changed ones": ({"a": "other", "d": "d is longer"}, ["a d"], ["a"]),  # of which one turns out the same
    "a removed one": ({"b/c": None}, [""], [""]),
    "one of which nothing is made any more": ({"d": "nothing"}, ["d"], [""]),
    "all of these": ({"a": None, "b/c": "nothing", "d": "long", "f": "f"}, ["b/c d f"], ["d f"]),
}


@pytest.mark.parametrize("edits", EDITS)
def test_only_new_and_changed_partitions_are_made_again(shop, edits):
    days, cleaned, counted = EDITS[edits]
    for day, text in days.items():
        put(shop, day, text)
    ran(by_settings, shop, **ONLY)
    assert calls(shop) == (cleaned, counted)
    assert results(shop) == clean_results(shop)
    assert ran(by_settings, shop, **ONLY) == []


@pytest.mark.parametrize(
    ("by", "runner"),
    [(by_kedro, {"runner": "SequentialRunner"}), (by_kedro, {"runner": "ThreadRunner"}), (in_processes, {})],
)
def test_so_it_is_with_every_runner(shop, by, runner):
    if by == in_processes:  # a lambda cannot be sent to another process, nor back
        edit(shop, "src/shop/days.py", MADE["lazily"], MADE["at once"])
        edit(shop, "src/shop/pipeline_registry.py", 'lambda counts: " ".join(sorted(counts))', "max")
        assert ran(by, shop) == []
        calls(shop)
    put(shop, "a", None)
    put(shop, "d", "changed")
    put(shop, "g", "new")
    assert not isinstance(ran(by, shop, **runner, **ONLY), str)
    assert calls(shop) == (["d g"], ["d g"])
    assert results(shop) == clean_results(shop)


def test_a_plain_run_is_given_all_and_removes_what_is_left_of_others(shop):
    put(shop, "a", None)
    assert ran(by_settings, shop) == ["clean", "count", "all"]
    assert calls(shop) == (["b/c d"], ["b/c d"])
    assert results(shop) == clean_results(shop)


WHOLE = {
    "a parameter": ("conf/base/parameters.yml", "rate: 2", "rate: 3"),
    "code": ("src/shop/days.py", "LENGTH = 3", "LENGTH = 2"),
    "how the input is loaded": ("conf/base/catalog.yml", "dataset: text.TextDataset, filename_suffix: .txt",
        "dataset: {type: text.TextDataset, fs_args: {open_args_load: {mode: r}}}, filename_suffix: .txt"),
    "how the output is saved": ("conf/base/catalog.yml", "02_intermediate/days, dataset: text.TextDataset",
        "02_intermediate/days, dataset: {type: text.TextDataset, fs_args: {open_args_save: {mode: w}}}"),
}  # fmt: skip


@pytest.mark.parametrize("change", WHOLE)
@pytest.mark.parametrize("with_partitions", [True, False])
def test_whatever_else_changes_has_all_partitions_made_again(shop, change, with_partitions):
    edit(shop, *WHOLE[change])
    if with_partitions:
        put(shop, "a", None)
        put(shop, "d", "changed")
    ran(by_settings, shop, **ONLY)
    assert calls(shop)[0] == ["b/c d" if with_partitions else "a b/c d"]
    assert results(shop) == clean_results(shop)


@pytest.mark.parametrize("harm", ["another input", "edited", "deleted", "beside", "no digests"])
def test_nothing_is_kept_that_does_not_fit(shop, harm):
    put(shop, "d", "changed")
    if harm == "another input":
        (shop / "data/01_raw/names.txt").write_text("\n")
    elif harm == "edited":
        (shop / CLEANED / "a").write_text("by hand")
    elif harm == "deleted":
        (shop / CLEANED / "a").unlink()
    elif harm == "beside":  # a file that a dataset may read with each partition
        (shop / RAW / "schema.json").write_text("{}")
    else:  # as a record of an earlier release
        record = shop / "data/02_intermediate/.days.provenance.json"
        record.write_text(record.read_text().replace('"partitions"', '"unknown"'))
    ran(by_settings, shop, **ONLY)
    assert calls(shop)[0] == ["a b/c d"]
    assert results(shop) == clean_results(shop)


@pytest.mark.parametrize("again", [{}, ONLY])
@pytest.mark.parametrize("killed_in", ["0", "g"])
def test_a_run_that_is_killed_while_it_saves_is_made_up_for(shop, again, killed_in):
    put(shop, "0", "new")
    put(shop, "g", "new")
    (shop / "die").write_text(killed_in)
    assert ran(by_settings, shop, **ONLY) is None
    assert calls(shop)[0] == ["0 g"]
    assert (shop / CLEANED / "0").exists() == (killed_in == "g")
    (shop / "die").unlink()
    put(shop, "0", None)  # whose result the killed run may have left
    put(shop, "a", None)
    assert not isinstance(ran(by_settings, shop, **again), str)
    assert calls(shop)[0] == ["b/c d g"]
    assert results(shop) == clean_results(shop)


def test_partitions_that_were_not_given_are_refused_before_anything_is_written(shop):
    put(shop, "d", "changed")
    (shop / "foreign").touch()
    before = results(shop)
    refused = ran(by_settings, shop, **ONLY)
    assert "returned the partitions a, and was given d. Nothing was written" in refused
    assert results(shop) == before
    (shop / "foreign").unlink()
    ran(by_settings, shop, **ONLY)
    assert calls(shop)[0] == ["d", "d"]
    assert results(shop) == clean_results(shop)


def test_a_run_says_how_many_partitions_it_makes_again(shop):
    put(shop, "d", "changed")
    assert ran(loaded, shop, said_by="kedro_provenance.plan") == [
        "clean runs for 1 of 3 partitions.",
        "count runs for 1 of 3 partitions.",
    ]


CATALOG_FILE = "conf/base/catalog.yml"
NAMES = "names: {type: text.TextDataset, filepath: data/01_raw/names.txt}"
CANNOT = {
    "an output that is overwritten": (CATALOG_FILE, "intermediate/days,", "intermediate/days, overwrite: true,"),
    "a second input of partitions": (CATALOG_FILE, NAMES,
        "names: {type: partitions.PartitionedDataset, path: data/01_raw/names, dataset: text.TextDataset}"),
    "a class of its own that inherits": (CATALOG_FILE, "days: {type: partitions.PartitionedDataset",
        "days: {type: shop.own.PartitionedDataset"),
}  # fmt: skip


@pytest.mark.parametrize("reason", CANNOT)
def test_what_cannot_work_by_partition_gets_all(shop, reason):
    edit(shop, *CANNOT[reason])
    if "second" in reason:
        (shop / "data/01_raw/names").mkdir()
        (shop / "data/01_raw/names/x").write_text("")
        edit(shop, "src/shop/days.py", "day + names.strip()", "day")
    (shop / "src/shop/own.py").write_text(OWN)
    ran(by_settings, shop, **ONLY)
    calls(shop)
    put(shop, "d", "changed")
    ran(by_settings, shop, **ONLY)
    assert calls(shop)[0] == ["a b/c d"]
    assert results(shop) == clean_results(shop)


def test_the_example_of_the_readme_runs(tmp_path):
    folder, readme = make_project(tmp_path), Path(kedro_provenance.__file__).with_name("README.md").read_text("utf-8")
    section = readme.partition("## Work by partition")[2]
    code, catalog = (section.partition(f"```{kind}\n")[2].partition("```")[0] for kind in ("python", "yaml"))
    (folder / "src/shop/days.py").write_text(code)
    (folder / "conf/base/catalog.yml").write_text(catalog)
    registry = "src/shop/pipeline_registry.py"
    edit(folder, registry, 'Node(clean, "orders", "cleaned", name="clean")', "")
    edit(folder, registry, 'Node(total, ["cleaned", "params:rate"], "totals", name="total")',
         'Node(clean, ["days", "params:rate"], "cleaned", name="clean")')  # fmt: skip
    edit(folder, registry, "        ,\n", "")
    edit(folder, registry, "shop.cleaning", "shop.days")
    days = folder / "data/01_raw/days"
    days.mkdir()
    for day in range(3):
        (days / f"{day}.csv").write_text(f"price\n{day}\n")
    assert ran(by_settings, folder) == ["clean"]
    old = {file.name: file.stat().st_mtime_ns for file in folder.glob("data/02_days/*.pq")}
    (days / "3.csv").write_text("price\n10\n")
    assert ran(loaded, folder, said_by="kedro_provenance.plan") == ["clean runs for 1 of 4 partitions."]
    new = {file.name: file.stat().st_mtime_ns for file in folder.glob("data/02_days/*.pq")}
    assert new == old | {"3.pq": new["3.pq"]}
    assert pd.read_parquet(folder / "data/02_days/3.pq").price.tolist() == [12]
