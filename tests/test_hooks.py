"""What hooks add to a run."""

import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.polars import CSVDataset, EagerPolarsDataset
from peft import LoraConfig, get_peft_model

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.hooks import CheckpointHooks, ErrorHooks, RunLockHooks, WholeSavesHooks
from reclora_kedro.hooks.refusal import RunRefusedError


def test_an_error_says_which_file_a_catalog_entry_is(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_text("rating\n")
    catalog = DataCatalog({"raw_interactions": CSVDataset(filepath=str(file)), "raw_users": MemoryDataset(None)})
    pipeline = Pipeline([Node(lambda log, users: log, ["raw_interactions", "raw_users"], "interactions", name="clean")])

    def notes(message):
        error = ValueError(message)
        ErrorHooks().on_pipeline_error(error, pipeline, catalog)
        return getattr(error, "__notes__", [])

    assert notes("raw_interactions and raw_users have no column 'x'") == [
        f"The catalog entry raw_interactions is the file {file}."
    ]
    assert notes(f"raw_interactions: failed to load {file}") == []
    assert notes("something else") == []


def test_checkpoints_go_when_their_own_adapter_is_saved(tmp_path):
    catalog = DataCatalog(
        {f"{v}.checkpoints": CheckpointStoreDataset(filepath=str(tmp_path / v)) for v in ("reclora", "shared_lora")}
    )
    for variant in ("reclora", "shared_lora"):
        catalog.load(f"{variant}.checkpoints").save("run", 1, {}, {})
    hooks = CheckpointHooks()
    hooks.after_catalog_created(catalog)
    for name in ("adapter", "reclora.training_log", "prompts"):
        hooks.after_dataset_saved(name)
    assert len(list(tmp_path.glob("*/run/*"))) == 2
    hooks.after_dataset_saved("reclora.adapter")
    assert [path.parts[-3] for path in tmp_path.glob("*/run/*")] == ["shared_lora"]


# One run at a time


def run_params(project, *pipelines):
    return {"project_path": str(project), "pipeline_names": list(pipelines)}


def test_a_second_run_on_a_project_folder_is_refused(tmp_path):
    first, second = RunLockHooks(), RunLockHooks()
    first.before_pipeline_run(run_params(tmp_path, "ingestion", "history"))
    with pytest.raises(RunRefusedError, match=rf"process {os.getpid()}, since \d.*, pipelines ingestion, history\. "):
        second.before_pipeline_run(run_params(tmp_path))
    (tmp_path / "another").mkdir()
    second.before_pipeline_run(run_params(tmp_path / "another"))


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_run_may_follow_another_one(tmp_path, end):
    hooks = RunLockHooks()
    hooks.before_pipeline_run(run_params(tmp_path))
    getattr(hooks, end)()
    RunLockHooks().before_pipeline_run(run_params(tmp_path))
    hooks.after_pipeline_run()


def test_an_interrupted_run_does_not_hinder_the_next_one_of_its_process(tmp_path):
    hooks = RunLockHooks()
    hooks.before_pipeline_run(run_params(tmp_path))
    hooks.before_pipeline_run(run_params(tmp_path))
    with pytest.raises(RunRefusedError):
        RunLockHooks().before_pipeline_run(run_params(tmp_path))


def test_a_killed_run_leaves_no_lock(tmp_path):
    code = (
        "import time; from reclora_kedro.hooks import RunLockHooks; hooks = RunLockHooks();"
        f"hooks.before_pipeline_run({run_params(tmp_path, 'lens')}); print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "locked\n" in process.stdout  # reads up to that line; Kedro logs before it
            with pytest.raises(RunRefusedError, match=f"process {process.pid}, .* pipelines lens"):
                RunLockHooks().before_pipeline_run(run_params(tmp_path))
        finally:
            process.send_signal(signal.SIGKILL)
    RunLockHooks().before_pipeline_run(run_params(tmp_path))


# Whole versions

ENTRIES = {
    "table": {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": "table.parquet"},
    "tensors": {
        "type": "kedro_datasets_experimental.safetensors.SafetensorsDataset",
        "filepath": "tensors.safetensors",
    },
    "records": {"type": "json.JSONDataset", "filepath": "records.json"},
    "page": {"type": "text.TextDataset", "filepath": "page.html"},
    "adapter": {"type": "reclora_kedro.datasets.peft_adapter.PeftAdapterDataset", "filepath": "variant/adapter"},
}


def numbers(size):
    return np.random.default_rng(0).random(size // 8)


def values(llm, size):
    """Something to save in each entry, of about so many bytes."""
    rank = max(1, size // (4 * 2 * 2 * 2 * 32))  # float32, two matrices in two layers' q_proj and o_proj, width 32
    lora = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=["q_proj", "o_proj"])
    return {
        "table": lambda: pl.DataFrame({"x": numbers(size)}),
        "tensors": lambda: {"x": numbers(size)},
        "records": lambda: numbers(size).tolist(),
        "page": lambda: "x" * size,
        "adapter": lambda: get_peft_model(deepcopy(llm.model), lora),
    }


class Runs:
    """Runs of one pipeline in a folder, as sessions make them, each with a catalog and a save version of its own."""

    def __init__(self, folder, count=0):
        self.folder, self.hooks, self.count = folder, WholeSavesHooks(), count

    def catalog(self, **entries):
        self.count += 1
        config = {
            name: entry | {"filepath": str(self.folder / entry["filepath"]), "versioned": True}
            for name, entry in entries.items()
        }
        return DataCatalog.from_config(config, save_version=f"2026-01-0{self.count}T00.00.00.000Z")

    def run(self, nodes, catalog, is_async=False, **arguments):
        manager = _create_hook_manager()
        manager.register(self.hooks)
        pipeline = Pipeline(nodes)
        manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
        try:
            SequentialRunner(is_async=is_async).run(pipeline, catalog, manager, **arguments)
        except Exception as error:
            manager.hook.on_pipeline_error(error=error, run_params={}, pipeline=pipeline, catalog=catalog)
            raise

    def files(self):
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def tear(dataset, error):
    """Let a dataset's next save end in the middle."""
    save = dataset.save

    def torn(data):
        save(data)
        path = Path(dataset._get_load_path())
        for file in [path] if path.is_file() else path.iterdir():
            os.truncate(file, file.stat().st_size // 2)
        raise error

    dataset.save = torn


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("error", [DatasetError("a save that failed"), KeyboardInterrupt()], ids=["error", "killed"])
def test_a_save_that_ends_in_the_middle_leaves_no_version(runs, tiny_llm, caplog, name, error):
    value = values(tiny_llm, 4096)[name]
    entry = {name: ENTRIES[name]}
    nodes = [Node(value, None, name, name="make")]
    runs.run(nodes, runs.catalog(**entry))
    before = runs.files()

    catalog = runs.catalog(**entry)
    tear(catalog.get(name), error)
    with pytest.raises(type(error)):
        runs.run(nodes, catalog)
    killed = isinstance(error, KeyboardInterrupt)  # as little is called after it as after a kill
    left = runs.files()
    assert {path: left[path] for path in before} == before
    assert all(".unfinished-" in str(path) for path in left.keys() - before)
    assert bool(left.keys() - before) == killed
    assert len(runs.catalog(**entry).get(name).list_versions()) == 1

    another_process = Runs(runs.folder, runs.count)
    with caplog.at_level(logging.WARNING):
        another_process.run(nodes, catalog := another_process.catalog(**entry))
    assert ("ended while it saved there" in caplog.text) == killed
    assert len(catalog.get(name).list_versions()) == 2
    assert not list(runs.folder.rglob(".*"))


@pytest.mark.parametrize("is_async", [False, True])
def test_each_output_of_a_node_is_saved_by_itself(runs, is_async):
    def make():
        return pl.DataFrame({"x": [1]}), [1], "page"

    outputs = ["table", "records", "page"]
    catalog = runs.catalog(**{name: ENTRIES[name] for name in outputs})
    tear(catalog.get("page"), OSError("torn"))
    with pytest.raises(OSError, match="torn"):
        runs.run([Node(make, None, outputs, name="make")], catalog, is_async)
    fresh = runs.catalog(**{name: ENTRIES[name] for name in outputs})
    if not is_async:  # else the order of saves is open
        assert fresh.exists("table")
        assert fresh.exists("records")
    assert not fresh.exists("page")
    runs.run([Node(make, None, outputs, name="make")], fresh, is_async)
    assert (fresh.load("records"), fresh.load("page")) == ([1], "page")


def test_a_node_that_yields_its_outputs_saves_whole_versions(runs):
    def make():
        yield pl.DataFrame({"x": [1]}), [1]

    catalog = runs.catalog(table=ENTRIES["table"], records=ENTRIES["records"])
    runs.run([Node(make, None, ["table", "records"], name="make")], catalog)
    assert catalog.load("records") == [1]
    assert catalog.load("table").height == 1


def test_outputs_without_versions_and_in_memory_are_saved_as_ever(runs):
    catalog = DataCatalog({"table": CSVDataset(filepath=str(runs.folder / "table.csv")), "memory": MemoryDataset()})
    runs.run([Node(lambda: (pl.DataFrame({"x": [1]}), 2), None, ["table", "memory"], name="make")], catalog)
    assert (runs.folder / "table.csv").is_file()


def test_a_file_where_versions_should_be_is_reported_and_kept(runs):
    (runs.folder / "records.json").write_text("[1]")
    with pytest.raises(DatasetError, match="file with the same name already exists"):
        runs.run([Node(lambda: [2], None, "records", name="make")], runs.catalog(records=ENTRIES["records"]))
    assert (runs.folder / "records.json").read_text() == "[1]"


# Full disks

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small disk can be mounted by root on Linux alone")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("name", ["table", "tensors", "adapter"])
def test_a_full_disk_stops_the_run_with_advice_and_nothing_is_lost(small_disk, tiny_llm, name):
    runs = Runs(small_disk)
    made = []
    small, large = values(tiny_llm, MIB // 8)[name], values(tiny_llm, MIB * 3 // 4)[name]
    entry = {name: ENTRIES[name], "page": ENTRIES["page"]}
    runs.run([Node(small, None, name, name="make")], runs.catalog(**entry))
    before = runs.files()
    other = small_disk / "other"
    other.write_bytes(bytes(MIB // 2))
    free = shutil.disk_usage(small_disk).free / MIB

    def first():
        made.append("page")
        return "page"

    # Kedro would take the small version for the large one's: the entry of the second run is another one.
    entry["large"] = ENTRIES[name] | {"filepath": f"large/{ENTRIES[name]['filepath']}"}
    nodes = [Node(first, None, "page", name="first"), Node(lambda page: large(), "page", "large", name="second")]
    with pytest.raises(DatasetError) as caught:
        runs.run(nodes, runs.catalog(**entry))
    (note,) = caught.value.__notes__
    assert str(small_disk / entry["large"]["filepath"]) in note
    assert f"needs more than the {free:.1f} MiB" in note
    assert "--only-missing-outputs" in note
    assert {path: content for path, content in runs.files().items() if path in before} == before
    assert not list(small_disk.glob("**/*unfinished*"))
    assert not runs.catalog(**entry).exists("large")

    other.unlink()
    runs.run(nodes, catalog := runs.catalog(**entry), only_missing_outputs=True)
    assert catalog.exists("large")
    assert catalog.load("large") is not None
    assert made == ["page"]


DATASETS = {
    "polars.CSVDataset": lambda file, load_args: CSVDataset(filepath=file, load_args=load_args),
    "polars.EagerPolarsDataset": lambda file, load_args: EagerPolarsDataset(
        filepath=file, file_format="csv", load_args=load_args
    ),
}


@pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz"])
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("broken", ["1\t2\tfour", "1\t2\t4\t5"], ids=["a word for a number", "too many fields"])
def test_an_error_of_polars_says_which_line_is_broken(tmp_path, dataset, name, broken):
    lines = ["# a log", "user_id\tmovie_id\trating", *["1\t2\t4"] * 1_500, broken, *["1\t2\t4"] * 9]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    log = DATASETS[dataset](str(tmp_path / name), {"separator": "\t", "comment_prefix": "#"})
    catalog = DataCatalog({"raw_interactions": log})
    pipeline = Pipeline([Node(lambda log: log, "raw_interactions", "interactions", name="clean")])
    with pytest.raises(DatasetError) as refusal:
        catalog.load("raw_interactions")
    ErrorHooks().on_pipeline_error(refusal.value, pipeline, catalog)
    assert refusal.value.__notes__ == [
        f"Line 1,503 of {tmp_path / name} cannot be read, where user_id, movie_id, rating are expected: {broken!r}. "
        "Correct it, or the load_args of the catalog entry raw_interactions."
    ]
