"""What hooks add to a run."""

import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner
from kedro_datasets.json import JSONDataset
from kedro_datasets.polars import CSVDataset, EagerPolarsDataset
from tqdm import tqdm

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.errors import MismatchError
from reclora_kedro.runs.catalog import AtomicCatalog
from reclora_kedro.runs.hooks import (
    CheckpointHooks,
    ErrorHooks,
    InputHooks,
    RunLockHooks,
    RunManifestHooks,
    RunnerHooks,
    TerminalHooks,
    errors,
    run_manifest,
)
from reclora_kedro.runs.hooks.refusal import RunRefusedError

ROOT = Path(__file__).parents[2]

# What errors say


class Pipelines(dict):
    """Registered pipelines, as Kedro keeps them."""

    def set_requested(self, names):
        assert names is None


@pytest.fixture
def registered(monkeypatch):
    """Two pipelines, each of one node."""
    history = Pipeline([Node(lambda: ([1], [2]), None, ["samples", "item_embeddings"], name="collect")])
    lens = Pipeline([Node(lambda samples: samples, "samples", "recommender.lens", name="train")])
    monkeypatch.setattr(errors, "pipelines", Pipelines(history=history, lens=lens, __default__=history + lens))
    return history + lens


def notes_on(error, pipeline=None, catalog=None, env=None):
    ErrorHooks().on_pipeline_error(error, {"env": env}, pipeline or Pipeline([]), catalog)
    return getattr(error, "__notes__", [])


def test_an_error_says_which_file_a_catalog_entry_is(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_text("rating\n")
    catalog = DataCatalog({"raw_interactions": CSVDataset(filepath=str(file)), "raw_users": MemoryDataset(None)})
    pipeline = Pipeline([Node(lambda log, users: log, ["raw_interactions", "raw_users"], "interactions", name="clean")])

    def notes(message):
        return notes_on(ValueError(message), pipeline, catalog)

    assert notes("raw_interactions and raw_users have no column 'x'") == [
        f"The catalog entry raw_interactions is the file {file}."
    ]
    assert notes(f"raw_interactions: failed to load {file}") == []
    assert notes("something else") == []


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
    assert notes_on(refusal.value, pipeline, catalog) == [
        f"Line 1,503 of {tmp_path / name} cannot be read, where user_id, movie_id, rating are expected: {broken!r}. "
        "Correct it, or the load_args of the catalog entry raw_interactions."
    ]


@pytest.mark.parametrize(
    ("entries", "env", "note"),
    [
        (["item_embeddings", "lens"], None, "`kedro run --pipelines history,lens`: item_embeddings, lens."),
        (["samples", "log"], "test", "`kedro run --env test --pipelines history`: samples."),
    ],
)
def test_artefacts_that_do_not_fit_come_with_the_command_that_makes_them_again(registered, entries, env, note):
    assert notes_on(MismatchError("found 2, expected 9", *entries), env=env) == [f"Make these again with {note}"]


def test_a_mismatch_that_no_pipeline_can_mend_gets_no_command(registered):
    assert notes_on(MismatchError("found 2, expected 9", "log", "beddings")) == []


def test_a_full_disk_comes_with_the_ways_to_go_on():
    (note,) = notes_on(
        DatasetError("items: Failed while saving data: No space left on device (os error 28)"), env="gpu"
    )
    assert "--from-nodes named above, or with `kedro run --env gpu --only-missing-outputs`" in note


# Inputs


def test_inputs_that_are_not_there_are_refused_with_the_command_that_makes_them(tmp_path, registered):
    catalog = AtomicCatalog.from_config(
        {
            name: {"type": "json.JSONDataset", "filepath": str(tmp_path / name), "versioned": name != "raw"}
            for name in ("raw", "samples", "item_embeddings", "recommender.lens")
        },
        load_versions={"samples": "2001"},
        save_version="2026",
    )
    for name in ("samples", "recommender.lens"):
        catalog.save(name, [1])
    catalog["memory"] = MemoryDataset([1])
    catalog["glob"] = CSVDataset(filepath=str(tmp_path / "*.csv"))
    pipeline = Pipeline([Node(lambda *inputs: None, sorted(catalog), None, name="read")])
    run_params = {"only_missing_outputs": False, "env": "test"}
    with pytest.raises(RunRefusedError) as refusal:
        InputHooks().before_pipeline_run(run_params, pipeline, catalog)
    assert str(refusal.value).splitlines() == [
        "What this run reads is not there. Nothing was written.",
        f"- item_embeddings: no version in {tmp_path / 'item_embeddings'}",
        f"- raw: no file {tmp_path / 'raw'}; it is raw data, and its catalog file in conf/ says where to get it",
        f"- samples: no version 2001 in {tmp_path / 'samples'}",
        "Make these first with `kedro run --env test --pipelines history`: item_embeddings, samples.",
    ]
    InputHooks().before_pipeline_run(run_params | {"only_missing_outputs": True}, pipeline, catalog)


# Runners


@pytest.mark.parametrize("runner", [ParallelRunner, ThreadRunner])
def test_runners_that_break_promises_are_refused(runner):
    with pytest.raises(RunRefusedError, match=rf"does not run with {runner.__name__}\. Nothing was written"):
        RunnerHooks().before_pipeline_run({"runner": str(runner())})


@pytest.mark.parametrize("runner", [None, SequentialRunner(), SequentialRunner(is_async=True)])
def test_the_default_runner_is_welcome(runner):
    RunnerHooks().before_pipeline_run({"runner": str(runner)})


# Checkpoints


def test_checkpoints_go_when_the_last_output_of_their_node_is_saved(tmp_path):
    variants = ("reclora", "shared_lora")
    catalog = DataCatalog({f"{v}.checkpoints": CheckpointStoreDataset(filepath=str(tmp_path / v)) for v in variants})
    train = {v: Node(lambda *_: 1, [f"{v}.checkpoints"], [f"{v}.log", f"{v}.adapter"], name=v) for v in variants}
    for variant in variants:
        catalog.load(f"{variant}.checkpoints").save("run", 1, {}, {})
    hooks = CheckpointHooks()
    hooks.after_catalog_created(catalog)
    for variant in variants:
        hooks.after_dataset_saved(f"{variant}.log", train[variant])
    assert len(list(tmp_path.glob("*/run/*"))) == 2
    hooks.after_dataset_saved("reclora.adapter", train["reclora"])
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


@pytest.mark.parametrize("found", ["a symbolic link", "a dangling symbolic link", "Is a directory", "no regular file"])
def test_a_lock_that_is_no_plain_file_is_refused_and_left_alone(tmp_path, found):
    victim, lock = tmp_path / "victim", tmp_path / "data/.run.lock"
    lock.parent.mkdir()
    if "symbolic link" in found:
        lock.symlink_to(victim)
    elif found == "Is a directory":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    if found == "a symbolic link":
        victim.write_text("precious")
    with pytest.raises(RunRefusedError, match=rf"\.run\.lock cannot be opened \({found.replace('dangling ', '')}\)"):
        RunLockHooks().before_pipeline_run(run_params(tmp_path))
    assert victim.exists() == (found == "a symbolic link")
    assert not victim.exists() or victim.read_text() == "precious"


def test_a_data_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(RunRefusedError, match=r"in a folder that you may write to\. Nothing was written"):
        RunLockHooks().before_pipeline_run(run_params(tmp_path))


def test_the_lock_is_for_its_user_alone(tmp_path):
    RunLockHooks().before_pipeline_run(run_params(tmp_path))
    assert (tmp_path / "data/.run.lock").stat().st_mode & 0o777 == 0o600


def test_a_killed_run_leaves_no_lock(tmp_path):
    code = (
        "import time; from reclora_kedro.runs.hooks import RunLockHooks; hooks = RunLockHooks();"
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


# The manifest, the terminal and the log file


def run(hooks, nodes, catalog, **arguments):
    manager = _create_hook_manager()
    manager.register(hooks)
    SequentialRunner(**arguments).run(Pipeline(nodes), catalog, manager)


def noting(tmp_path):
    """Hooks of a session that leaves a manifest."""
    hooks = RunManifestHooks()
    loader = {"parameters": {"history": {"seed": 7}}}
    hooks.after_context_created(SimpleNamespace(config_loader=loader, project_path=tmp_path))
    return hooks


@pytest.mark.parametrize("is_async", [False, True])
def test_nodes_are_noted_with_their_seconds_and_outputs(tmp_path, caplog, monkeypatch, is_async):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(run_manifest, "time", SimpleNamespace(time=lambda: next(clock) / 10))
    entries = {
        name: {"type": "json.JSONDataset", "filepath": str(tmp_path / name), "versioned": True}
        for name in ("samples", "log", "run_manifest")
    }
    catalog = AtomicCatalog.from_config(entries)
    hooks = noting(tmp_path)
    nodes = [
        Node(lambda: ([1], [2]), None, ["samples", "log"], name="history.collect"),
        Node(lambda log: None, "log", None, name="show"),
    ]
    with caplog.at_level(logging.INFO, "reclora_kedro"):
        run(hooks, nodes, catalog, is_async=is_async)
        hooks.after_pipeline_run({"run_id": "1", "env": "test", "pipeline_names": []}, catalog)
    lines = [record.message.split() for record in caplog.records if record.name.startswith("reclora_kedro")]
    assert lines == [["history.collect", "0.6", "s", "saved", "samples,", "log"], ["show", "0.2", "s"]]
    manifest = catalog.load("run_manifest")
    assert list(manifest["nodes"].items()) == [("history.collect", 0.6), ("show", 0.2)]
    assert manifest["seed"] == 7
    assert manifest["saved"].keys() == {"samples", "log"}


def test_a_manifest_says_what_was_read(tmp_path):
    (tmp_path / "raw").write_text("[1]")
    versioned = {"type": "json.JSONDataset", "filepath": str(tmp_path / "items"), "versioned": True}
    manifest = versioned | {"filepath": str(tmp_path / "run_manifest")}
    catalog = AtomicCatalog.from_config({"items": versioned, "run_manifest": manifest}, save_version="2026")
    catalog["raw"] = JSONDataset(filepath=str(tmp_path / "raw"))
    catalog.save("items", [1])
    hooks = noting(tmp_path)
    run(hooks, [Node(lambda raw, items: None, ["raw", "items"], None, name="read")], catalog)
    hooks.after_pipeline_run({"run_id": "1", "env": None, "pipeline_names": ["lens"]}, catalog)
    digest = "080a9ed428559ef602668b4c00f114f1a11c3f6b02a435f0bdc154578e4d7f22"
    assert catalog.load("run_manifest")["loaded"] == {"items": "version 2026", "raw": f"sha256 {digest}"}


class Terminal(StringIO):
    """Standard error of a process, on a terminal or not."""

    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_the_messages_of_the_project_above_the_bars(monkeypatch, is_terminal):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(is_terminal))
    logger = logging.getLogger("reclora_kedro")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    for _ in range(2):  # two runs of a process
        hooks = TerminalHooks()
        hooks.before_pipeline_run()
        hooks.before_pipeline_run()
        logger.handlers = logger.handlers[-1:]
    with tqdm(total=2, disable=None) as progress:
        progress.update()
        logging.getLogger("reclora_kedro.lens").info("lens.train_lens  2.0 s  saved lens")
        logging.getLogger("reclora_kedro.lens").warning("reported by conf/logging.yml")
        logging.getLogger("kedro.io").info("Loading data from lens")
    shown = terminal.getvalue()
    assert shown.count("saved lens") == is_terminal
    assert not {"reported", "Loading"} & set(shown.split())


def test_the_manifest_knows_raw_objects_by_their_state(bucket):
    entry = {"type": "json.JSONDataset", "filepath": f"{bucket.address}/raw.json", "credentials": bucket.options}
    catalog = AtomicCatalog.from_config({"raw": entry, "other": entry})
    described = []
    for content in (b"[1]", b"[2]", b"[1]"):
        bucket.put("raw.json", content)
        described.append(run_manifest.describe_entries(catalog, {"raw"})["raw"])
    assert described[0] == described[2] != described[1]
    assert described[0].startswith("state ")


def test_the_log_file_has_everything_and_a_pipe_only_warnings(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=lambda _, names: set(names) - {"logging.yml"})
    code = (
        "import logging, os, warnings; import kedro.framework.project; print(os.listdir());"
        "logging.getLogger('kedro.io').info('Loading [items]');"
        "logging.getLogger('reclora_kedro.lens').info('trained');"
        "logging.getLogger('reclora_kedro.lens').warning('take [care]'); warnings.warn('deprecated')"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = ["take [care]", "deprecated"]
    first, *shown = ended.stdout.splitlines()
    assert first == "['conf']"
    assert all(any(text in line for line in shown) for text in said)
    logged = (tmp_path / "kedro.log").read_text()
    assert all(text in logged for text in ("Loading [items]", "trained", *said))
    assert not {"Loading", "trained"} & set(ended.stdout.split())
    assert ended.stderr == ""
