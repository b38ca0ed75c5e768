"""Whatever runs have left is found, and erased whole."""

from pathlib import Path

import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from kedro_provenance.archive import Archive, bytes_freed
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.recipe import Recipe, StoredVersion
from kedro_provenance.stores import Store

TABLE = {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "versioned": True}
JSON = {"type": "json.JSONDataset", "versioned": True}
SCRATCH = "reclora_kedro.datasets.checkpoint_store.CheckpointStoreDataset"


def entries(data):
    return {
        "users": TABLE | {"filepath": f"{data}/users.parquet", "metadata": {"kedro-viz": {"layer": "primary"}}},
        "production.users": TABLE | {"filepath": f"{data}/users.parquet"},
        "raw": {"type": "json.JSONDataset", "filepath": f"{data}/raw.json"},
        "{model}_scores": JSON | {"filepath": f"{data}/{{model}}_scores.json"},
        "lens_permuted_scores": JSON | {"filepath": f"{data}/lens_permuted_scores.json"},
        "{variant}.checkpoints": {"type": SCRATCH, "filepath": f"{data}/{{variant}}/checkpoints"},
    }


def save(data, name, value, version):
    catalog = AtomicCatalog.from_config(entries(data), save_version=version)
    catalog.making[name] = StoredVersion(Recipe("make", "code", {}, {}, {}), run=version)
    catalog.save(name, value)


def archive(data, *stores, **more):
    return Archive(AtomicCatalog.from_config(entries(data) | more), [Store(str(store)) for store in stores])


def listed(archive):
    return sorted((each.entry, each.version) for each in archive.versions())


@pytest.fixture(autouse=True)
def _aliases(monkeypatch):
    monkeypatch.setattr("kedro_provenance.project.alias_names", lambda: ["production"])


@pytest.fixture
def data(tmp_path):
    save(tmp_path, "users", pl.DataFrame({"user_id": [1]}), "1")
    save(tmp_path, "users", pl.DataFrame({"user_id": [1, 2]}), "2")
    save(tmp_path, "former_scores", [1], "1")  # of a model that no pipeline has any more
    save(tmp_path, "lens_permuted_scores", [1], "2")
    (tmp_path / "reclora/checkpoints/key").mkdir(parents=True)
    return tmp_path


ALL = [
    ("former_scores", "1"),
    ("lens_permuted_scores", "2"),
    ("reclora.checkpoints", None),
    ("users", "1"),
    ("users", "2"),
]


def test_all_versions_of_all_entries_are_listed_and_erased_one_by_one(data):
    assert listed(archive(data)) == ALL
    by_name = {(each.entry, each.version): each for each in archive(data).versions()}
    assert by_name["users", "2"].layer == "primary"
    assert [pl.read_parquet(file).height for file in Path(by_name["users", "2"].address).glob("*.parquet")] == [2]
    for name in (("users", "1"), ("reclora.checkpoints", None)):
        by_name[name].erase()
    assert listed(archive(data)) == [
        each for each in ALL if each not in (("users", "1"), ("reclora.checkpoints", None))
    ]
    assert not list(data.rglob(".unfinished*"))


def test_what_lies_in_a_store_is_listed(data, tmp_path):
    made, gone = tmp_path / "study/key/users/users.parquet/7", tmp_path / "study/key/gone/gone.json/7"
    for folder in (made, gone):  # the latter of an entry that the catalog has no longer
        folder.mkdir(parents=True)
    left = tmp_path / "study/key/reclora.checkpoints/checkpoints/step"
    left.mkdir(parents=True)
    of_store = {Path(each.address) for each in archive(data, tmp_path / "study").versions()}
    assert {made, gone, left.parent} <= of_store
    assert len(of_store) == len(ALL) + 3


def test_versions_in_an_object_storage(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"memory://{tmp_path.name}"
    for version in ("1", "2"):
        save(address, "users", pl.DataFrame({"user_id": [int(version)]}), version)
    AtomicCatalog.from_config(entries(address), load_versions={"users": "1"}).load("users")  # a copy in the cache
    save(address, "former_scores", [1], "1")
    versions = {(each.entry, each.version): each for each in archive(address).versions()}
    assert set(versions) == {("former_scores", "1"), ("users", "1"), ("users", "2")}
    assert versions["users", "1"].stored.run == "1"
    of_users = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("users.parquet/1/*"))
    assert bytes_freed([versions["users", "1"], versions["users", "1"]]) == {"users": 2 * of_users} != {"users": 0}
    versions["users", "1"].erase()
    assert listed(archive(address)) == [("former_scores", "1"), ("users", "2")]
    assert not list((tmp_path / "cache").rglob("users.parquet/1"))


def test_no_folder_of_an_object_storage_is_listed_twice_and_no_record_read_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"memory://{tmp_path.name}"
    save(address, "users", pl.DataFrame({"user_id": [1]}), "1")
    save(address, "former_scores", [1], "1")
    looked_at, ls, cat_file = [], MemoryFileSystem.ls, MemoryFileSystem.cat_file

    def noted(method):
        return lambda self, path, *args, **kwargs: looked_at.append(path) or method(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "ls", noted(ls))
    monkeypatch.setattr(MemoryFileSystem, "cat_file", noted(cat_file))
    stored, root = archive(address), f"/{tmp_path.name}"
    folders = [root, f"{root}/former_scores.json", f"{root}/users.parquet"]
    records = [f"{folder}/1/provenance.json" for folder in folders[1:]]
    assert listed(stored) == [("former_scores", "1"), ("users", "1")]
    # Neither the missing folder of an entry nor what a pattern names has a listing of its own.
    assert sorted(looked_at) == sorted([*folders, *records])
    assert listed(stored) == [("former_scores", "1"), ("users", "1")]
    assert sorted(looked_at) == sorted([*folders, *folders, *records])


def test_whoever_may_not_list_the_parent_may_list_a_folder_of_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address, ls = f"memory://{tmp_path.name}", MemoryFileSystem.ls
    save(address, "users", pl.DataFrame({"user_id": [1]}), "1")

    def refused(self, path, *args, **kwargs):
        if path == f"/{tmp_path.name}":
            raise PermissionError("Access Denied")
        return ls(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "ls", refused)
    users = {"users": TABLE | {"filepath": f"{address}/users.parquet"}}
    assert listed(Archive(AtomicCatalog.from_config(users))) == [("users", "1")]


def test_what_is_in_use_stays(data):
    reader = {"type": "json.JSONDataset", "filepath": f"{data}/former_scores.json/1/former_scores.json"}
    versions = archive(data).versions()
    faults = [
        "- users 2 is in use.",
        f"- The catalog entry raw_scores reads {reader['filepath']}, which is former_scores 1.",
    ]
    with pytest.raises(ValueError, match="Nothing was erased") as refusal:
        archive(data, raw_scores=reader).require_erasable(versions, {("users", "2"), ("model", "1")})
    assert str(refusal.value).splitlines()[1:] == faults
    assert listed(archive(data)) == ALL
    archive(data).require_erasable(versions, {("users", "3")})
    for each in versions:
        each.erase()
    assert not archive(data).versions()
