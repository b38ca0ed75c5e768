"""What hooks add to a run."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import polars as pl
import pytest
from kedro.framework import project as framework
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner
from kedro_datasets.json import JSONDataset
from kedro_datasets.polars import CSVDataset, LazyPolarsDataset
from kedro_viz.integrations.kedro.hooks_utils import is_sequential_runner
from rich.console import Console
from rich.logging import RichHandler
from tqdm import tqdm

from forked import FORKED
from kedro_provenance import failures, hooks
from kedro_provenance import project as of_project
from kedro_provenance import start as begin
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.errors import Fault, MismatchError, NameRefusedError, Parameter
from kedro_provenance.failures import RunRefusedError, explain_failure
from kedro_provenance.hooks import ProvenanceHooks
from kedro_provenance.lock import lock_data
from kedro_provenance.manifest import describe_entries, parameters_of
from kedro_provenance.parameters import Block, Private, reads
from kedro_provenance.runner import IncrementalRunner
from kedro_provenance.start import (
    require_catalog,
    require_datasets,
    require_inputs,
    require_past_versions,
    require_readable,
    require_runner,
    tell_unused_pipelines,
)
from kedro_provenance.terminal import show_messages
from reclora_kedro.distributed.engine import LOCAL
from starting import RUN_PARAMS, start

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _project():
    bootstrap_project(ROOT)


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
    monkeypatch.setattr(failures, "pipelines", Pipelines(history=history, lens=lens, __default__=history + lens))
    return history + lens


def notes_on(error, pipeline=None, catalog=None, env=None):
    explain_failure(error, start(pipeline=pipeline, catalog=catalog, env=env))
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_file_of_another_user_or_of_a_read_only_disk_is_a_refusal_that_says_what_to_do(code):
    error = OSError(code, os.strerror(code), "data/model.safetensors")
    assert failures.is_refusal(error)
    assert notes_on(error) == [
        f"The user {os.getuid()} may not read or write data/model.safetensors: change its permissions, or run as its "
        "owner."
    ]
    saved = DatasetError("Failed while saving data to lens")
    saved.__cause__ = error
    assert "may not read or write data/model.safetensors" in notes_on(saved)[0]


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


def note_on_reading(path):
    return f"The catalog entry raw_interactions reads {path}: correct the file, or the entry's type or load_args."


def test_a_file_that_cannot_be_read_is_named_with_its_entry(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,rating\n1,4\n1,four,5\n")
    catalog = DataCatalog({"raw_interactions": CSVDataset(filepath=str(tmp_path / "log.csv"))})
    pipeline = Pipeline([Node(lambda log: log, "raw_interactions", "interactions", name="clean")])
    with pytest.raises(DatasetError, match="found more fields than defined") as failed:
        catalog.load("raw_interactions")
    assert notes_on(failed.value, pipeline, catalog) == [note_on_reading(tmp_path / "log.csv")]


def test_so_is_a_folder_whose_parts_do_not_fit_together(tmp_path):
    for number, part in enumerate((pl.DataFrame({"user_id": [1], "rating": [4]}), pl.DataFrame({"user_id": [1]}))):
        part.write_parquet(tmp_path / f"part-{number}.parquet")
    log = LazyPolarsDataset(filepath=str(tmp_path), file_format="parquet")
    pipeline = Pipeline([Node(lambda log: log.collect(), "raw_interactions", "interactions", name="clean")])
    with pytest.raises(pl.exceptions.ColumnNotFoundError) as failed:
        log.load().collect()
    assert notes_on(failed.value, pipeline, DataCatalog({"raw_interactions": log})) == [note_on_reading(tmp_path)]


@pytest.mark.parametrize(
    ("error", "env", "notes"),
    [
        (
            MismatchError("found 2, expected 9", "item_embeddings", "lens"),
            None,
            ["Make these again with `kedro run --pipelines history,lens`: item_embeddings, lens."],
        ),
        (
            MismatchError("found 2, expected 9", "samples", "log"),
            "test",
            ["Make these again with `kedro run --env test --pipelines history`: samples."],
        ),
        (MismatchError("found 2, expected 9", "log", "beddings"), None, []),
        (
            DatasetError("items: Failed while saving data: No space left on device (os error 28)"),
            "gpu",
            [
                "Free some space, then go on with the --from-nodes named above, or with "
                "`kedro run --env gpu --only-missing-outputs` if no earlier run left these outputs."
            ],
        ),
    ],
    ids=["two pipelines", "one that is not made", "none that is made", "a full disk"],
)
def test_an_error_comes_with_the_command_that_mends_it_if_any(registered, error, env, notes):
    assert notes_on(error, env=env) == notes


def test_a_wrong_name_of_another_step_does_not_hide_an_error(monkeypatch):
    class Refusing(Pipelines):
        def items(self):
            raise NameRefusedError(Fault(Parameter("export.variant"), "is 'other'"))

    monkeypatch.setattr(failures, "pipelines", Refusing())
    [note] = notes_on(MismatchError("found 2, expected 9", "lens"))
    assert note.endswith("when this is right: export.variant is 'other'.")


def test_the_terminal_shows_no_stack_trace_of_a_refusal(tmp_path, capsys, caplog):
    engine = LOCAL.model_copy(update={"scratch": "nowhere"})
    refusals = [lambda: engine.require_scratch(), lambda: AtomicCatalog().load("none")]
    bugs = [lambda: {}["a"], lambda: np.zeros(2) @ np.zeros(3)]
    caplog.set_level(logging.DEBUG, failures.__name__)
    shown = []
    for fail in refusals + bugs:
        with click.Context(click.Command("run")):
            try:
                fail()
            except Exception as error:
                try:
                    explain_failure(error, start(tmp_path))
                except RunRefusedError as refusal:
                    refusal.show()
                    shown.append(capsys.readouterr().err)
    assert [text.partition(" ")[0] for text in shown] == ["Error:"] * 2
    assert "engine.scratch is 'nowhere'" in shown[0]
    assert "Traceback" not in "".join(shown)
    assert "require_scratch" in caplog.text  # the log has it


# Inputs


def test_inputs_that_another_user_keeps_are_refused_by_their_files(tmp_path, monkeypatch):
    names = ("theirs", "mine", "absent")
    catalog = AtomicCatalog({name: CSVDataset(filepath=str(tmp_path / f"{name}.csv")) for name in names})
    for name in names[:2]:
        (tmp_path / f"{name}.csv").touch()
    pipeline = Pipeline([Node(lambda *tables: tables, [*names], "all", name="collect")])

    def access(path, mode):
        return (mode == os.F_OK and path.exists()) or path.name == "mine.csv"

    monkeypatch.setattr(begin.os, "access", access)
    with pytest.raises(RunRefusedError) as refused:
        require_readable(start(tmp_path, pipeline, catalog))
    assert str(refused.value).splitlines() == [
        "What this run reads may not be read. Nothing was written.",
        f"- theirs: {tmp_path}/theirs.csv",
        f"Change the permissions, or run as the owner: this is the user {os.getuid()}.",
    ]


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
    read = sorted(catalog)
    pipeline = Pipeline([Node(lambda *inputs: None, read, None, name="read")])
    run = start(pipeline=pipeline, catalog=catalog, env="test")
    with pytest.raises(RunRefusedError) as refusal:
        require_inputs(run)
    assert str(refusal.value).splitlines() == [
        "What this run reads is not there. Nothing was written.",
        f"- item_embeddings: no version in {tmp_path / 'item_embeddings'}",
        f"- raw: no file {tmp_path / 'raw'}; it is raw data, and its catalog file in conf/ says where to get and put it"
        ". Beside it: recommender.lens, samples",
        f"- samples: no version 2001 in {tmp_path / 'samples'}",
        "Make these first with `kedro run --env test --pipelines history`: item_embeddings, samples.",
    ]
    run.to_run = Pipeline([])
    require_inputs(run)


def test_a_version_of_the_future_is_refused_unless_another_one_is_named(tmp_path):
    entries = {
        name: {"type": "json.JSONDataset", "filepath": str(tmp_path / name), "versioned": True}
        for name in ("samples", "lens", "run_manifest")
    }
    for version in ("2025", "2199"):
        AtomicCatalog.from_config(entries, save_version=version).save("lens", [version])
    pipeline = Pipeline([Node(lambda samples: samples, "samples", "lens", name="train")])

    def start_with(**load_versions):
        catalog = AtomicCatalog.from_config(entries, save_version="2026", load_versions=load_versions)
        require_past_versions(start(tmp_path, pipeline, catalog, run_id="2026", load_versions=load_versions))

    with pytest.raises(RunRefusedError, match=rf"(?s)Newer versions exist .*- lens: version 2199 in {tmp_path}/lens"):
        start_with()
    start_with(lens="2025")
    shutil.rmtree(tmp_path / "lens/2199")
    start_with()


# What a run cannot begin with


LOG_IN_MEMORY = AtomicCatalog.from_config({"log": {"type": "MemoryDataset", "data": 1}})


def reading(*names):
    return Pipeline([Node(lambda *inputs: None, [*names], "kept_in_memory", name="read")])


REFUSED = {
    "nodes in other processes": (
        require_runner,
        {"runner": str(ParallelRunner())},
        r"does not run with ParallelRunner\. Nothing was",
    ),
    "a catalog without provenance": (
        require_catalog,
        {"catalog": DataCatalog()},
        r"is a DataCatalog, .*Set `DATA_CATALOG_CLASS = AtomicCatalog`",
    ),
    "no entry and no parameter": (
        require_datasets,
        {"pipeline": reading("log", "bert"), "catalog": LOG_IN_MEMORY},
        r"- bert: no such entry of the catalog, and no such parameter\nCorrect",
    ),
    "a file in place of the data folder": (
        lock_data,
        {"project": ROOT, "data": "README.md"},
        r"in a writable folder is expected\. Nothing was written",
    ),
}
"""By what is wrong: the function that refuses it, the run, and what the refusal says."""


@pytest.mark.parametrize(("require", "run", "pattern"), REFUSED.values(), ids=REFUSED)
def test_what_a_run_cannot_begin_with_is_refused(require, run, pattern):
    with pytest.raises(RunRefusedError, match=pattern):
        require(start(**run))


@pytest.mark.parametrize("runner", [None, SequentialRunner(), IncrementalRunner(), IncrementalRunner(is_async=True)])
def test_runners_in_this_process_are_welcome(runner, monkeypatch):
    require_runner(start(runner=str(runner)))
    monkeypatch.setattr("kedro_provenance.start.of_hooks", lambda _: [])  # of a project without late tags
    require_runner(start(runner=str(ThreadRunner())))
    # kedro-viz's, which would warn of every run otherwise
    assert runner is None or is_sequential_runner({"runner": str(runner)})


def test_threads_are_refused_where_nodes_have_an_order(monkeypatch):
    monkeypatch.setattr("kedro_provenance.start.of_hooks", lambda _: ["gpu"])
    require_runner(start(runner=str(SequentialRunner())))
    with pytest.raises(RunRefusedError, match=r"does not run with ThreadRunner\. Nothing was"):
        require_runner(start(runner=str(ThreadRunner())))


def test_an_entry_in_memory_is_welcome():
    require_datasets(start(pipeline=reading("log"), catalog=LOG_IN_MEMORY))


# One run at a time


def test_a_second_run_on_a_data_folder_is_refused(tmp_path):
    lock_data(first := start(tmp_path, pipeline_names=["ingestion", "history"]))
    with pytest.raises(RunRefusedError, match=rf"process {os.getpid()}, since \d.*, pipelines ingestion, history\. "):
        lock_data(start(tmp_path))
    lock_data(start(tmp_path / "another"))
    first.held.close()
    lock_data(start(tmp_path))


def test_two_checkouts_with_one_data_folder_wait_for_one_another(tmp_path):
    lock_data(one := start(tmp_path / "one", data=str(tmp_path / "shared")))
    with pytest.raises(RunRefusedError, match=rf"Another run uses the data folder {tmp_path}/shared: process"):
        lock_data(start(tmp_path / "other", data=str(tmp_path / "shared")))
    lock_data(start(tmp_path / "other"))  # with a data folder of its own
    one.held.close()


def test_a_pipeline_that_adds_nothing_to_a_run_is_told(tmp_path, caplog, monkeypatch):
    makes, adds = (Pipeline([Node(lambda: 1, None, name, name=name)]) for name in ("table", "model"))
    monkeypatch.setattr(begin, "pipelines", {"makes": makes, "adds": adds, "none": Pipeline([])})
    tell_unused_pipelines(start(tmp_path, makes, pipeline_names=["makes", "none"]))
    assert not caplog.text
    tell_unused_pipelines(start(tmp_path, makes, pipeline_names=["makes", "adds"]))  # --to-nodes table
    assert "No node of the pipeline adds is part of this run" in caplog.text


def test_an_object_storage_is_not_locked_and_that_is_said(tmp_path, caplog):
    lock_data(start(tmp_path, data="s3://bucket/reclora"))
    assert "s3://bucket/reclora cannot be locked" in caplog.text
    assert (tmp_path / "data/.run.lock").exists()


def hooks_of(project, pipeline, catalog, checks=(), **run_params):
    """Hooks of a run that has started."""
    hooks = ProvenanceHooks(checks=checks)
    hooks._session.began = 0
    parameters = {"history": {"seed": 7}, "lens": {"dropout": 0.1}, "allow_mixed": True}
    hooks._session.context = start(project, parameters=parameters).context
    hooks._session.parameters = of_project.parameters_in_use()
    hooks.before_pipeline_run(RUN_PARAMS | run_params, pipeline, catalog)
    return hooks


@pytest.mark.parametrize("end", ["success", "failure", "refusal"])
def test_a_run_may_follow_another_one(tmp_path, end):
    def refuse(pipeline, catalog):
        raise RunRefusedError("no")

    if end == "refusal":
        with pytest.raises(RunRefusedError, match="no"):
            hooks_of(tmp_path, Pipeline([]), AtomicCatalog(), [refuse])
    else:
        hooks = hooks_of(tmp_path, Pipeline([]), AtomicCatalog())
        hooks.after_pipeline_run() if end == "success" else hooks.on_pipeline_error(ValueError("no"))
    lock_data(start(tmp_path))


def test_an_error_of_the_start_shows_no_stack_trace_and_leaves_no_lock(tmp_path):
    def load(pipeline, catalog):
        raise DatasetError("The files of champion were changed.")

    with click.Context(click.Command("run")), pytest.raises(RunRefusedError, match=r"The files of champion were"):
        hooks_of(tmp_path, Pipeline([]), AtomicCatalog(), [load])
    lock_data(start(tmp_path))


def test_an_interrupted_run_does_not_hinder_the_next_one_of_its_process(tmp_path):
    hooks = hooks_of(tmp_path, Pipeline([]), AtomicCatalog())
    hooks.before_pipeline_run(RUN_PARAMS, Pipeline([]), AtomicCatalog())
    with pytest.raises(RunRefusedError):
        lock_data(start(tmp_path))


def test_a_process_has_one_run_at_a_time(tmp_path):
    hooks = hooks_of(tmp_path, Pipeline([]), AtomicCatalog())
    with ThreadPoolExecutor() as pool:
        hooks._session.context = start(tmp_path / "other").context
        second = pool.submit(hooks.before_pipeline_run, RUN_PARAMS, Pipeline([]), AtomicCatalog())
    with pytest.raises(RunRefusedError, match="Another run is in progress in this process"):
        second.result()
    hooks.after_pipeline_run()  # which the second one has not touched


def test_a_run_is_refused_whose_pipelines_were_made_anew_by_the_parameters_of_another_one(tmp_path, monkeypatch):
    hooks = hooks_of(tmp_path, Pipeline([]), AtomicCatalog())
    hooks.after_pipeline_run()
    monkeypatch.setitem(of_project._by_package, framework.PACKAGE_NAME, {"of": "another request"})
    with pytest.raises(RunRefusedError, match="another one with other parameters began in this process"):
        hooks.before_pipeline_run(RUN_PARAMS, Pipeline([]), AtomicCatalog())
    lock_data(start(tmp_path))


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
        lock_data(start(tmp_path))
    assert victim.exists() == (found == "a symbolic link")
    assert not victim.exists() or victim.read_text() == "precious"


def test_the_lock_is_for_its_user_alone(tmp_path):
    lock_data(start(tmp_path))
    assert (tmp_path / "data/.run.lock").stat().st_mode & 0o777 == 0o600


def test_a_killed_run_leaves_no_lock(tmp_path):
    code = (
        "import time; from starting import start; from kedro_provenance.lock import lock_data;"
        "run = start(path, pipeline_names=['lens']); lock_data(run); locked.send(True); time.sleep(600)"
    )
    waiting, locked = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=exec, args=(code, {"path": tmp_path, "locked": locked}))
    process.start()
    try:
        assert waiting.recv()
        with pytest.raises(RunRefusedError, match=f"process {process.pid}, .* pipelines lens"):
            lock_data(start(tmp_path))
    finally:
        process.kill()
        process.join()
    lock_data(start(tmp_path))


# The manifest, the terminal and the log file


def run(nodes, catalog, project, **arguments):
    """Run nodes with the hooks, to the end."""
    pipeline, manager = Pipeline(nodes), _create_hook_manager()
    manager.register(hooks := hooks_of(project, pipeline, catalog))
    SequentialRunner(**arguments).run(pipeline, catalog, manager)
    hooks.after_pipeline_run()


@pytest.mark.parametrize("is_async", [False, True])
def test_nodes_are_noted_with_their_seconds_and_outputs(tmp_path, caplog, monkeypatch, is_async):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(hooks, "time", SimpleNamespace(time=lambda: next(clock) / 10))
    entries = {
        name: {"type": "json.JSONDataset", "filepath": str(tmp_path / name), "versioned": True}
        for name in ("samples", "log", "run_manifest")
    }
    catalog = AtomicCatalog.from_config(entries)
    nodes = [
        Node(lambda: ([1], [2]), None, ["samples", "log"], name="history.collect"),
        Node(lambda log: None, "log", None, name="show"),
    ]
    with caplog.at_level(logging.INFO, "kedro_provenance"):
        run(nodes, catalog, tmp_path, is_async=is_async)
    lines = [record.message.split() for record in caplog.records if record.name == hooks.__name__]
    assert lines == [["history.collect", "0.2", "s", "saved", "samples,", "log"], ["show", "0.2", "s"]]
    manifest = catalog.load("run_manifest")
    assert list(manifest["nodes"].items()) == [("history.collect", 0.2), ("show", 0.2)]
    assert manifest["saved"].keys() == {"samples", "log"}


def test_a_manifest_says_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr("kedro_provenance.plan.all_pipelines", dict)  # which do not make the versions that are read
    (tmp_path / "raw").write_text("[1]")
    versioned = {"type": "json.JSONDataset", "filepath": str(tmp_path / "items"), "versioned": True}
    manifest = versioned | {"filepath": str(tmp_path / "run_manifest")}
    catalog = AtomicCatalog.from_config({"items": versioned, "run_manifest": manifest}, save_version="2026")
    catalog["raw"] = JSONDataset(filepath=str(tmp_path / "raw"))
    catalog["params:history"] = {"seed": 7}
    catalog.save("items", [1])
    run([Node(lambda *_: None, ["raw", "items", "params:history"], None, name="read")], catalog, tmp_path)
    digest = "080a9ed428559ef602668b4c00f114f1a11c3f6b02a435f0bdc154578e4d7f22"
    manifest = catalog.load("run_manifest")
    assert manifest["loaded"] == {"items": "version 2026", "raw": f"sha256 {digest}"}
    assert manifest["parameters"] == {"history": {"seed": 7}}  # not those of steps that it does not make


def test_the_parameters_of_a_manifest_are_those_that_nodes_read():
    class Shop(Block):
        users: Private[tuple[int, ...]] = (42,)

    class Prompt(Block):
        seed: int
        k: int = 3
        users: Private[tuple[int, ...]] = (42,)
        shops: tuple[Shop, ...] = ()

    @reads(prompt=["seed", "k"])
    def build(prompt: Prompt) -> int:
        return prompt.seed

    prompt = {"seed": 1, "other": 2, "users": [42], "shops": [{"users": [42]}]}
    parameters = {"prompt": prompt, "lens": {"zoo": {"wide": {"a": 1}, "deep": {"b": 1}}, "c": 1}}
    read = [
        Node(build, "params:prompt", "prompts", name="build"),
        Node(lambda wide: 1, "params:lens.zoo.wide", "wide", name="wide"),
    ]
    catalog = DataCatalog(
        {
            "params:prompt": MemoryDataset(Prompt(seed=1, shops=(Shop(),))),
            "params:lens": MemoryDataset({}),
            "params:lens.zoo.wide": MemoryDataset({}),
        }
    )
    assert parameters_of(read, parameters, catalog) == {"prompt": {"seed": 1}, "lens": {"zoo": {"wide": {"a": 1}}}}
    read.append(Node(lambda lens: 1, "params:lens", "lens", name="all"))
    assert parameters_of(read, parameters, catalog)["lens"] == parameters["lens"]
    read.append(Node(lambda prompt: 1, "params:prompt", "all_prompts", name="all_of_prompt"))
    without_users = {"seed": 1, "other": 2, "shops": [{}]}
    assert parameters_of(read, parameters, catalog)["prompt"] == without_users
    catalog["parameters"] = MemoryDataset({})
    read.append(Node(lambda parameters: 1, "parameters", "whole", name="whole"))
    assert parameters_of(read, parameters, catalog)["prompt"] == without_users


class Terminal(StringIO):
    """Standard error of a process, on a terminal or not."""

    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_messages_of_the_project_are_shown_on_a_terminal_above_the_bars(monkeypatch, is_terminal):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(is_terminal))
    logger = logging.getLogger("reclora_kedro")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    for _ in range(2):  # two runs of a process
        show_messages()
    with tqdm(total=2, disable=None) as progress:
        progress.update()
        logging.getLogger("reclora_kedro.lens").info("lens.train_lens  2.0 s  saved lens")
        logging.getLogger("reclora_kedro.lens").warning("reported by conf/logging.yml")
        logging.getLogger("kedro.io").info("Loading data from lens")
    shown = terminal.getvalue()
    assert shown.count("saved lens") == 1
    assert ("%" in shown) == is_terminal
    assert not {"reported", "Loading"} & set(shown.split())


def test_kedros_own_logging_shows_the_messages_once(monkeypatch):
    terminal = Terminal(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(logging.getLogger(), "handlers", [RichHandler(console=Console(file=terminal))])
    logger = logging.getLogger("kedro_provenance")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setattr(logger, "_cache", {})
    show_messages()
    logger.info("train runs")
    assert terminal.getvalue().count("train runs") == 1


def test_the_manifest_knows_raw_objects_by_their_state(bucket):
    entry = {"type": "json.JSONDataset", "filepath": f"{bucket.address}/raw.json", "credentials": bucket.options}
    catalog = AtomicCatalog.from_config({"raw": entry, "other": entry})
    described = []
    for content in (b"[1]", b"[2]", b"[1]"):
        bucket.put("raw.json", content)
        described.append(describe_entries(catalog, {"raw"})["raw"])
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
