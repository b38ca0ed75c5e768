"""A plan sees changes that are neither in a node's module nor in its parameters."""

import json
import pickle
import threading
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
from kedro.io import AbstractDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from codeprint import depends, forget
from kedro_provenance import project as of_project
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.entry_digests import of_this_process
from kedro_provenance.plan import plan
from kedro_provenance.runner import IncrementalRunner

HOOKS = """
from kedro.framework.hooks import hook_impl

class Scaling:
    def __init__(self, factor):
        self.factor = factor

    @hook_impl
    def before_node_run(self, node, inputs):
        return {name: value * self.factor for name, value in inputs.items()}

class Timing:
    @hook_impl
    def after_pipeline_run(self, run_params):
        print("over")

class Observing:
    changes_results = False

    @hook_impl
    def before_node_run(self, node, inputs):
        print(inputs)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for module in ("project", "plan", "catalog"):  # of whatever project was opened before
        monkeypatch.setattr(f"kedro_provenance.{module}.project_packages", lambda: ())
    forget()
    yield tmp_path
    forget()


def catalog_of(folder, *names, kinds=None):
    entries = {
        name: {"type": "json.JSONDataset", "filepath": str(folder / f"{name}.json")} | (kinds or {}).get(name, {})
        for name in names
    }
    return AtomicCatalog.from_config(entries)


def reasons(flow, catalog):
    forget()
    return {step.node.name: step.reasons for step in plan(flow, catalog) if step.reasons}


def run(flow, catalog):
    forget()
    runner = IncrementalRunner()
    runner.run(flow, catalog, only_missing_outputs=True)
    return runner.nodes_run


@pytest.mark.parametrize(
    ("made", "old", "new", "is_seen"),
    [
        ("Scaling(2)", "value * self", "value + self", True),
        ("Timing()", "over", "end", False),
        ("Observing()", "print(inputs)", "print(node)", False),
    ],
)
def test_of_hooks_that_may_change_results_edits_are_seen(folder, monkeypatch, made, old, new, is_seen):
    (folder / "own_hooks.py").write_text(HOOKS)
    flow = Pipeline([Node(lambda: 1, None, "one", name="make")])

    def hooks(text):
        monkeypatch.setattr(of_project, "_codes", {})
        hook = eval(text, vars(import_module("own_hooks")))
        monkeypatch.setattr(
            of_project, "project", SimpleNamespace(PACKAGE_NAME=None, settings=SimpleNamespace(HOOKS=[hook]))
        )

    hooks(made)
    run(flow, catalog_of(folder, "one"))
    assert reasons(flow, catalog_of(folder, "one")) == {}
    hooks(made.replace("2", "3"))
    assert bool(reasons(flow, catalog_of(folder, "one"))) == ("2" in made)
    (folder / "own_hooks.py").write_text(HOOKS.replace(old, new))
    hooks(made)
    assert bool(reasons(flow, catalog_of(folder, "one"))) == is_seen


def test_what_a_function_declares_is_seen(folder, monkeypatch):
    @depends(files=["rates*.csv"], packages=["kedro"])
    def price():
        return 1

    flow = Pipeline([Node(depends(env=["REGION"])(partial(price)), None, "one", name="price")])
    monkeypatch.setenv("REGION", "secret-region")
    (folder / "rates-1.csv").write_text("1")
    run(flow, catalog_of(folder, "one"))
    assert "secret-region" not in "".join(path.read_text() for path in folder.glob(".*provenance.json"))
    assert reasons(flow, catalog_of(folder, "one")) == {}
    (folder / "rates-2.csv").write_text("2")
    monkeypatch.setenv("REGION", "other")
    monkeypatch.setattr("codeprint.declared.version", lambda name: "99")
    [(seen,)] = reasons(flow, catalog_of(folder, "one")).values()
    assert seen.startswith("its code: environment variable REGION changed, file rates*.csv changed, package kedro ")
    assert seen.endswith(" -> 99")


def test_what_a_function_holds_and_cannot_be_compared_is_named(folder):
    flow = Pipeline([Node(partial(lambda lock: 1, threading.Lock()), None, "one", name="make")])
    run(flow, catalog_of(folder, "one"))
    assert reasons(flow, catalog_of(folder, "one"))["make"][0] == ("it holds a _thread.lock, which cannot be compared")


def test_an_edit_of_what_a_hook_puts_into_the_catalog_is_seen(folder):
    def catalog():
        made = catalog_of(folder, "two")
        made["one"] = JSONDataset(filepath="one.json")
        return made

    flow = Pipeline([Node(lambda one: one, "one", "two", name="make")])
    (folder / "one.json").write_text("1")
    assert [run(flow, catalog()) for _ in range(2)] == [1, 0]
    (folder / "one.json").write_text("2")
    assert run(flow, catalog()) == 1


def test_what_reads_a_dataset_of_arguments_that_cannot_be_copied_runs_every_time(folder):
    class Locked(AbstractDataset):
        def __init__(self, lock): ...

        def load(self):
            return 1

        def save(self, data): ...

        def _describe(self): ...

    flow = Pipeline([Node(lambda one: one, "one", "two", name="make")])
    for _ in range(2):
        catalog = catalog_of(folder, "two")
        catalog["one"] = Locked(threading.Lock())
        of_this_process.cache_clear()
        assert run(flow, catalog) == 1


MODEL = "class Model:\n    def predict(self):\n        return 1\n"


def test_the_code_of_a_class_among_the_data_that_a_node_reads_is_seen(folder):
    (folder / "own_model.py").write_text(MODEL)
    model = import_module("own_model").Model
    flow = Pipeline(
        [
            Node(lambda: {"best": [model()]}, None, "model", name="train"),
            Node(lambda model: model["best"][0].predict(), "model", "scores", name="score"),
        ]
    )
    kinds = {"model": {"type": "pickle.PickleDataset"}}
    run(flow, catalog_of(folder, "model", "scores", kinds=kinds))
    assert pickle.loads((folder / "model.json").read_bytes())["best"][0].predict() == 1
    (folder / "own_model.py").write_text(MODEL.replace("1", "2"))
    (folder / "model.json").touch()
    found = reasons(flow, catalog_of(folder, "model", "scores", kinds=kinds))
    assert "its code: own_model.Model changed" in found["score"]


def test_an_incremental_dataset_keeps_what_was_made_of_it(folder):
    (folder / "days").mkdir()
    (folder / "days/1.json").write_text("1")
    kinds = {"days": {"type": "partitions.IncrementalDataset", "path": "days", "dataset": "json.JSONDataset"}}

    def catalog():
        return AtomicCatalog.from_config(kinds | {"sums": {"type": "json.JSONDataset", "filepath": "sums.json"}})

    def flow(extra=0):
        return Pipeline([Node(lambda days: sum(days.values()) + extra, "days", "sums", confirms="days", name="sum")])

    made = []
    for day, extra in ((None, 0), (None, 0), ("2", 0), (None, 1), (None, 1)):
        if day:
            (folder / f"days/{day}.json").write_text(day)
        run(flow(extra), catalog())
        made.append(json.loads((folder / "sums.json").read_text()))
    assert made == [1, 1, 2, 2, 2]
    assert (folder / "days/CHECKPOINT").exists()


def test_a_folder_of_partitions_is_kept_until_one_is_changed(folder):
    def catalog():
        kind = {"type": "partitions.PartitionedDataset", "path": "parts", "dataset": "json.JSONDataset"}
        return AtomicCatalog.from_config({"parts": kind})

    flow = Pipeline([Node(lambda: {"a": 1, "b": 2}, None, "parts", name="split")])
    assert [run(flow, catalog()) for _ in range(2)] == [1, 0]
    (folder / "parts/a").write_text("3")
    assert run(flow, catalog()) == 1
