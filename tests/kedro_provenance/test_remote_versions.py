"""Versions in an object storage are there whole or not at all."""

import logging
import shutil
from datetime import timedelta

import polars as pl
import pytest
from kedro.io import DatasetError

from codeprint.files import private_cache
from kedro_provenance import remote_versions
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.storage import StorageError
from kedro_provenance.recipe import Recipe, StoredVersion

ENTRIES = {
    "table": {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": "table.parquet"},
    "tensors": {
        "type": "kedro_datasets_experimental.safetensors.SafetensorsDataset",
        "filepath": "tensors.safetensors",
    },
    "records": {"type": "reclora_kedro.datasets.previews.RecordsDataset", "filepath": "records.json"},
    "page": {
        "type": "text.TextDataset",
        "filepath": "page.html",
        "fs_args": {"open_args_save": {"mode": "w", "encoding": "utf-8"}},
    },
    "adapters": {"type": "reclora_kedro.datasets.folders.UserAdaptersDataset", "filepath": "variant/adapters"},
}
MAKING = StoredVersion(Recipe("make", "code", {}, {}, {}), run="now")


class Adapters:
    """A folder with a subfolder."""

    def save(self, folder, before):
        (folder / "README.md").write_text("adapters")
        (folder / "user-1").mkdir()
        (folder / "user-1/adapter_config.json").write_text('{"r": 2}')


VALUES = {
    "table": pl.DataFrame({"x": [1, 2]}),
    "tensors": {},
    "records": [{"a": 1}],
    "page": "ä",
    "adapters": Adapters(),
}


class Sessions:
    """Sessions with a storage, each with a catalog and a save version of its own."""

    def __init__(self, bucket):
        self.bucket, self.count = bucket, 0

    def catalog(self, *names, load_versions=None):
        self.count += 1
        entries = {name: ENTRIES[name] | {"versioned": True} for name in names}
        for entry in entries.values():
            entry["filepath"] = f"{self.bucket.address}/data/{entry['filepath']}"
        return AtomicCatalog.from_config(
            entries, {"s3": self.bucket.options}, load_versions, f"2026-01-0{self.count}T00.00.00.000Z"
        )

    def save(self, name, value):
        catalog = self.catalog(name)
        catalog.making[name] = MAKING
        catalog.save(name, value)
        return catalog


@pytest.fixture
def sessions(bucket):
    return Sessions(bucket)


@pytest.fixture
def another_machine():
    """Forget all copies of what lies in the storage."""
    return lambda: shutil.rmtree(private_cache("kedro-provenance") / "versions")


@pytest.mark.parametrize("name", ENTRIES)
def test_what_was_saved_is_loaded_on_another_machine(sessions, another_machine, name):
    sessions.save(name, VALUES[name])
    catalog = sessions.catalog(name)
    here = catalog.load(name)
    another_machine()
    there = sessions.catalog(name).load(name)
    assert catalog.exists(name)
    assert catalog.stored(name).recipe.node == "make"
    assert catalog.stored(name).version == "2026-01-01T00.00.00.000Z"
    assert there.equals(here) if name == "table" else there == here
    names = sessions.bucket.objects(f"data/{ENTRIES[name]['filepath']}/2026-01-01T00.00.00.000Z")
    assert {"_SUCCESS", "provenance.json"} < set(names)


def test_previews_and_versions_are_those_in_the_storage(sessions, another_machine):
    sessions.save("records", [{"a": 1}])
    sessions.save("records", [{"a": 2}])
    another_machine()
    catalog = sessions.catalog("records")
    assert catalog["records"].preview()["data"] == [[2]]
    assert catalog["records"].list_versions(full_path=False) == [f"2026-01-0{day}T00.00.00.000Z" for day in (2, 1)]
    assert catalog.load("records", "2026-01-01T00.00.00.000Z") == [{"a": 1}]
    pinned = sessions.catalog("records", load_versions={"records": "2026-01-01T00.00.00.000Z"})
    assert pinned.load("records") == [{"a": 1}]


def test_a_run_reads_nothing_that_another_machine_saves_meanwhile(sessions):
    sessions.save("records", [0])
    reading, saving, theirs = (sessions.catalog("records") for _ in range(3))
    assert reading.load("records") == [0]
    saving.save("records", [1])
    theirs.save("records", [2])
    for catalog in (reading, saving):
        catalog.release("records")
    assert (reading.load("records"), saving.load("records")) == ([0], [1])
    assert sessions.catalog("records").load("records") == [2]
    without = sessions.catalog("page")
    assert not without.exists("page")
    sessions.save("page", "theirs")
    without.release("page")
    assert not without.exists("page")
    assert sessions.catalog("page").exists("page")


@pytest.mark.parametrize(
    ("error", "is_killed"),
    [(OSError("the network is gone"), False), (KeyboardInterrupt(), False), (KeyboardInterrupt(), True)],
    ids=["error", "interrupted", "killed"],
)
def test_an_upload_that_ends_in_the_middle_leaves_no_version(sessions, monkeypatch, caplog, error, is_killed):
    sessions.save("adapters", VALUES["adapters"])
    before = sessions.bucket.objects()

    def put(files, objects):
        sessions.bucket.files.put_file(files[0], objects[0])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sessions.bucket.files, "put", put)
        if is_killed:
            patch.setattr(remote_versions, "remove", lambda *_: None)
        with pytest.raises(DatasetError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            sessions.save("adapters", VALUES["adapters"])
    if isinstance(error, OSError):
        assert f"adapters: {sessions.bucket.address}/data/variant/adapters/2026-01-02T" in str(raised.value)
        assert "the network is gone" in str(raised.value)
    left = set(sessions.bucket.objects()) - set(before)
    assert len(left) == 2 * is_killed  # a file, and what tells that the plug-in began

    catalog = sessions.catalog("adapters")
    assert catalog.stored("adapters").version == "2026-01-01T00.00.00.000Z"
    assert catalog["adapters"].list_versions(full_path=False) == ["2026-01-01T00.00.00.000Z"]
    assert "2026-01-01" in catalog.load("adapters")
    with pytest.raises(DatasetError, match=r"2026-01-02T00.00.00.000Z is missing or incomplete: it has no _SUCCESS"):
        catalog.load("adapters", "2026-01-02T00.00.00.000Z")

    catalog.save("adapters", VALUES["adapters"])  # what is left may be another machine's upload, and stays
    assert left <= set(sessions.bucket.objects())
    monkeypatch.setattr(remote_versions, "LEFTOVER", timedelta(0))
    with caplog.at_level(logging.WARNING):
        sessions.save("adapters", VALUES["adapters"])
    assert left.isdisjoint(sessions.bucket.objects())
    assert ("adapters/2026-01-02T00.00.00.000Z: an earlier run was interrupted" in caplog.text) == is_killed
    assert sessions.catalog("adapters")["adapters"].list_versions(full_path=False)[-1] == "2026-01-01T00.00.00.000Z"


def test_what_others_have_saved_there_stays(sessions, monkeypatch):
    monkeypatch.setattr(remote_versions, "LEFTOVER", timedelta(0))
    theirs = [f"data/page.html/{name}" for name in ("2025-01-01T00.00.00.000Z/page.html", "notes/readme.txt")]
    for name in theirs:
        sessions.bucket.put(name, b"by Kedro without the plug-in, or by hand")
    sessions.save("page", "text")
    assert {*theirs} < set(sessions.bucket.objects())


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_a_version_that_was_changed_is_refused(sessions, another_machine, change):
    sessions.save("adapters", VALUES["adapters"])
    another_machine()
    folder = "data/variant/adapters/2026-01-01T00.00.00.000Z"
    if change == "removed":
        sessions.bucket.files.rm_file(f"{sessions.bucket.address}/{folder}/adapters/README.md")
    else:
        sessions.bucket.put(f"{folder}/adapters/{'README' if change == 'changed' else 'more'}.md", b"adapterz")
    with pytest.raises(DatasetError, match=rf"adapters: .*{folder} are not those that were saved there"):
        sessions.catalog("adapters").load("adapters")
    assert not [path for path in (private_cache("kedro-provenance") / "versions").rglob("*") if path.is_file()]


def test_a_damaged_copy_is_fetched_again(sessions, caplog):
    sessions.save("page", "text")
    (copy,) = private_cache("kedro-provenance").rglob("*/page.html/*/page.html")
    copy.write_text("tex")
    with caplog.at_level(logging.WARNING):
        assert sessions.catalog("page").load("page") == "text"
    assert "is damaged" in caplog.text


def test_only_the_catalog_saves(sessions):
    catalog = sessions.catalog("page")
    with pytest.raises(DatasetError, match="are saved through the catalog"):
        catalog["page"].save("text")
    catalog.save("page", "text")
    with pytest.raises(DatasetError, match="must not exist if versioning is enabled"):
        catalog.save("page", "another")


def test_a_folder_without_versions_is_refused(sessions):
    entry = ENTRIES["adapters"] | {"filepath": f"{sessions.bucket.address}/adapters"}
    with pytest.raises(DatasetError, match=rf"{sessions.bucket.address}/adapters is in .* `versioned: true`"):
        AtomicCatalog.from_config({"adapters": entry}).load("adapters")


def test_an_entry_has_its_own_credentials_before_those_of_its_protocol(bucket):
    entry = {"type": "json.JSONDataset", "filepath": f"{bucket.address}/a.json", "versioned": True}
    credentials = {"mine": bucket.options, "s3": {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": "no"}}}
    catalog = AtomicCatalog.from_config({"a": entry | {"credentials": "mine"}, "{b}.c": entry}, credentials)
    catalog.save("a", [1])
    assert catalog.load("a") == [1]
    with pytest.raises(StorageError, match="Invalid endpoint: no"):
        catalog.load("b.c")


def test_other_storages_than_s3_do_as_well(bucket):  # the bucket for its cache
    entry = {"type": "json.JSONDataset", "filepath": "memory://elsewhere/records.json", "versioned": True}
    AtomicCatalog.from_config({"records": entry}).save("records", [1])
    shutil.rmtree(private_cache("kedro-provenance"))
    assert AtomicCatalog.from_config({"records": entry}).load("records") == [1]
