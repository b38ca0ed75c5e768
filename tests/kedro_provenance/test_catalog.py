"""Versions are saved whole or not at all."""

import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from kedro.io import DatasetError
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset
from peft import LoraConfig, get_peft_model

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import local_path

ENTRIES = {
    "table": {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": "table.parquet"},
    "tensors": {
        "type": "kedro_datasets_experimental.safetensors.SafetensorsDataset",
        "filepath": "tensors.safetensors",
    },
    "records": {"type": "json.JSONDataset", "filepath": "records.json"},
    "page": {"type": "text.TextDataset", "filepath": "page.html"},
    "adapter": {"type": "reclora_kedro.datasets.folders.PeftAdapterDataset", "filepath": "variant/adapter"},
}
VERSIONED = {name: entry | {"versioned": True} for name, entry in ENTRIES.items()}


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


class Sessions:
    """Sessions in a folder, each with a catalog and a save version of its own."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def catalog(self, **entries):
        self.count += 1
        return AtomicCatalog.from_config(
            {name: entry | {"filepath": str(self.folder / entry["filepath"])} for name, entry in entries.items()},
            save_version=f"2026-01-0{self.count}T00.00.00.000Z",
        )

    def files(self):
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path)


def run(nodes, catalog, is_async=False, **arguments):
    SequentialRunner(is_async=is_async).run(Pipeline(nodes), catalog, **arguments)


@contextmanager
def torn_saves(dataset, folder, error, meanwhile=lambda: None):
    """Let saves of a type of datasets end in the middle, and expect the error."""
    save = type(dataset).save

    def torn(self, data):
        save(self, data)
        written = [path for path in folder.glob("**/.unfinished-*/**/*") if path.is_file()]
        assert written
        for file in written:
            os.truncate(file, file.stat().st_size // 2)
        meanwhile()
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(dataset), "save", torn)
        with pytest.raises(type(error), match=str(error) or None):
            yield


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("error", [DatasetError("torn"), KeyboardInterrupt()], ids=["error", "interrupted"])
def test_a_save_that_ends_in_the_middle_leaves_no_version(sessions, tiny_llm, name, error):
    value = values(tiny_llm, 4096)[name]
    entry = {name: VERSIONED[name]}
    sessions.catalog(**entry).save(name, value())
    before = sessions.files()

    catalog = sessions.catalog(**entry)
    with torn_saves(catalog[name], sessions.folder, error):
        catalog.save(name, value())
    assert sessions.files() == before
    assert not list(sessions.folder.rglob(".*"))
    assert len(catalog[name].list_versions()) == 1
    catalog.save(name, value())
    assert len(catalog[name].list_versions()) == 2


@pytest.mark.parametrize("name", ENTRIES)
def test_what_a_killed_run_left_is_no_version_and_goes_with_the_next_save(sessions, tiny_llm, tmp_path, caplog, name):
    value = values(tiny_llm, 4096)[name]
    catalog = sessions.catalog(**{name: VERSIONED[name]})
    versions = local_path(catalog[name])
    with torn_saves(catalog[name], versions, KeyboardInterrupt(), lambda: shutil.copytree(versions, tmp_path / "kill")):
        catalog.save(name, value())
    shutil.copytree(tmp_path / "kill", versions, dirs_exist_ok=True)
    [draft] = versions.glob(".unfinished-*")
    assert list(draft.rglob("*"))
    draft.rename(draft.with_name(draft.name.replace(f"-{os.getpid()}-", "-99999999-")))  # of a process that has died

    catalog = sessions.catalog(**{name: VERSIONED[name]})
    assert not catalog.exists(name)
    assert catalog[name].list_versions() == []
    with caplog.at_level(logging.INFO):
        catalog.save(name, value())
    assert "ended while it wrote there" in caplog.text
    assert len(catalog[name].list_versions()) == 1
    assert not list(versions.rglob(".*"))


def test_an_error_names_the_entry_and_its_own_path(sessions):
    catalog = sessions.catalog(records=VERSIONED["records"])
    with pytest.raises(DatasetError) as caught:
        catalog.save("records", {"no JSON": object()})
    message = str(caught.value)
    assert message.startswith("records: Failed while saving data to dataset kedro_datasets.json")
    assert str(sessions.folder / "records.json") in message
    assert "unfinished" not in message


@pytest.mark.parametrize("is_async", [False, True])
def test_each_output_of_a_node_is_saved_by_itself(sessions, is_async):
    def make():
        return pl.DataFrame({"x": [1]}), [1], "page"

    outputs = ["table", "records", "page"]
    catalog = sessions.catalog(**{name: VERSIONED[name] for name in outputs})
    node = Node(make, None, outputs, name="make")
    with torn_saves(catalog["page"], sessions.folder / "page.html", DatasetError("torn")):
        run([node], catalog, is_async)
    fresh = sessions.catalog(**{name: VERSIONED[name] for name in outputs})
    if not is_async:  # else the order of saves is open
        assert fresh.exists("table")
        assert fresh.exists("records")
    assert not fresh.exists("page")
    run([node], fresh, is_async)
    assert (fresh.load("records"), fresh.load("page")) == ([1], "page")


def test_a_node_that_yields_its_outputs_saves_whole_versions(sessions):
    def make():
        yield pl.DataFrame({"x": [1]}), [1]

    catalog = sessions.catalog(table=VERSIONED["table"], records=VERSIONED["records"])
    run([Node(make, None, ["table", "records"], name="make")], catalog)
    assert catalog.load("records") == [1]
    assert catalog.load("table").height == 1


def test_outputs_without_versions_and_in_memory_are_saved_as_ever(sessions):
    catalog = sessions.catalog(records=ENTRIES["records"])
    run([Node(lambda: ([1], [2]), None, ["records", "memory"], name="make")], catalog)
    assert (sessions.folder / "records.json").is_file()
    assert catalog.load("memory") == [2]


def test_a_dataset_made_in_code_is_saved_whole_too(sessions):
    file = sessions.folder / "records.json"
    catalog = AtomicCatalog({"records": JSONDataset(filepath=f"file://{file}", version=Version(None, None))})
    catalog.save("records", [1])
    with torn_saves(catalog["records"], sessions.folder, DatasetError("torn")):
        catalog.save("records", [2])
    assert catalog.load("records") == [1]
    catalog.save("records", [3])
    assert catalog.load("records") == [3]
    assert len(list(file.iterdir())) == 2


class Vault(JSONDataset):
    """Notes the credentials that it saves with."""

    used: ClassVar = []

    def __init__(self, *, filepath, credentials, version=None):
        super().__init__(filepath=filepath, version=version)
        self.credentials = credentials

    def save(self, data):
        self.used.append((str(self), self.credentials))
        super().save(data)


def test_an_entry_takes_the_credentials_of_its_name():
    entry = {"type": f"{__name__}.Vault", "filepath": "x"}
    entries = {"vault": entry, "other": entry | {"credentials": "mine"}}
    catalog = AtomicCatalog.from_config(entries, {"vault": {"key": "secret"}, "mine": {"key": "own"}})
    assert [catalog.get(name).credentials["key"] for name in entries] == ["secret", "own"]


def test_the_credentials_of_an_entry_are_kept(sessions):
    entry = {"type": f"{__name__}.Vault", "filepath": str(sessions.folder / "vault.json"), "versioned": True}
    catalog = AtomicCatalog.from_config({"vault": entry | {"credentials": "mine"}}, {"mine": {"key": "secret"}})
    catalog.save("vault", [1])
    ((description, credentials),) = Vault.used
    assert ".unfinished-" in description
    assert credentials == {"key": "secret"}


class Ledger(JSONDataset):
    """Inherits its `__init__`."""


def test_a_dataset_that_inherits_its_arguments_is_saved_whole_too(sessions):
    entry = {"type": f"{__name__}.Ledger", "filepath": "ledger.json", "versioned": True}
    catalog = sessions.catalog(ledger=entry)
    with torn_saves(catalog["ledger"], sessions.folder, DatasetError("torn")):
        catalog.save("ledger", [1])
    assert not catalog.exists("ledger")
    catalog.save("ledger", [1])
    assert sessions.catalog(ledger=entry).load("ledger") == [1]


class Contract:
    """Counts the tables that it is asked about."""

    asked = 0

    def validate(self, data):
        type(self).asked += 1
        return data.with_columns(checked=True)


def test_a_contract_is_checked_once_for_a_save_and_the_load_after_it(sessions):
    contract = {"class": f"{__name__}.Contract", "skip_load_after_save": True}
    catalog = sessions.catalog(table=VERSIONED["table"] | {"validator": contract})
    catalog.save("table", pl.DataFrame({"x": [1]}))
    assert catalog.load("table").columns == ["x", "checked"]
    assert Contract.asked == 1


def test_kedro_itself_refuses_a_version_that_is_there(sessions):
    catalog = sessions.catalog(records=VERSIONED["records"])
    catalog.save("records", [1])
    with pytest.raises(DatasetError, match="must not exist if versioning is enabled"):
        catalog.save("records", [2])
    assert catalog.load("records") == [1]


def test_a_file_where_versions_should_be_is_reported_and_kept(sessions):
    (sessions.folder / "records.json").write_text("[1]")
    with pytest.raises(DatasetError, match="file with the same name already exists"):
        sessions.catalog(records=VERSIONED["records"]).save("records", [2])
    assert (sessions.folder / "records.json").read_text() == "[1]"


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
def test_a_full_disk_stops_the_run_and_nothing_is_lost(small_disk, tiny_llm, name):
    sessions = Sessions(small_disk)
    made = []
    small, large = values(tiny_llm, MIB // 8)[name], values(tiny_llm, MIB * 3 // 4)[name]
    entry = {name: VERSIONED[name], "page": VERSIONED["page"]}
    sessions.catalog(**entry).save(name, small())
    before = sessions.files()
    other = small_disk / "other"
    other.write_bytes(bytes(MIB // 2))
    free = shutil.disk_usage(small_disk).free / MIB

    def first():
        made.append("page")
        return "page"

    # Kedro would take the small version for the large one's: the entry of the second run is another one.
    entry["large"] = VERSIONED[name] | {"filepath": f"large/{ENTRIES[name]['filepath']}"}
    nodes = [Node(first, None, "page", name="first"), Node(lambda page: large(), "page", "large", name="second")]
    with pytest.raises(DatasetError) as caught:
        run(nodes, sessions.catalog(**entry))
    (note,) = caught.value.__notes__
    assert f"The disk is full: {small_disk / entry['large']['filepath']}" in note
    assert f"needs more than the {free:.1f} MiB" in note
    assert {path: content for path, content in sessions.files().items() if path in before} == before
    assert not list(small_disk.glob("**/*unfinished*"))
    assert not sessions.catalog(**entry).exists("large")

    other.unlink()
    run(nodes, catalog := sessions.catalog(**entry), only_missing_outputs=True)
    assert catalog.exists("large")
    assert catalog.load("large") is not None
    assert made == ["page"]
