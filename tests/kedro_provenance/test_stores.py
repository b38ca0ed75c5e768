"""Results by recipe are put and found in a folder and in an object storage alike."""

import json
import shutil
from pathlib import Path

import fsspec
import pytest

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.storage import StorageError, read
from kedro_provenance.recipe import Recipe, StoredVersion, read_version
from kedro_provenance.stores import Store

RECIPE = Recipe("train", "1", {}, {}, {})


@pytest.fixture
def version(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder := tmp_path / "model.json/1").mkdir(parents=True)
    (folder / "model.json").write_text("[1]")
    StoredVersion(RECIPE, run="1").write(folder)
    return folder


@pytest.mark.parametrize("kind", ["folder", "storage"])
def test_a_version_is_put_once_and_found_by_its_recipe(version, tmp_path, kind):
    store = Store(str(tmp_path / "store") if kind == "folder" else f"memory://{tmp_path.name}", is_cache=True)
    for _ in range(2):
        store.put(RECIPE.key, "model", "model.json", version)
    [found] = store.versions(RECIPE.key, "model", "model.json")
    assert (found.run, found.is_intact, (found.folder / "model.json").read_text()) == ("1", True, "[1]")
    assert not [*store.versions("another", "model", "model.json"), *store.versions(RECIPE.key, "model", "a.json")]
    assert [entry for entry, _ in store.addresses()] == ["model"]


def test_a_cache_that_cannot_be_used_hinders_no_run(version, tmp_path, caplog, monkeypatch):
    entry = {"type": "json.JSONDataset", "filepath": str(version.parent), "versioned": True}
    catalog = AtomicCatalog.from_config({"model": entry}, save_version="1")
    (tmp_path / "file").write_text("no folder")
    catalog.stores = [Store(str(tmp_path / "file"), is_cache=True), Store("memory://away", is_cache=True)]
    monkeypatch.setattr(Store, "versions", lambda *_: (_ for _ in ()).throw(StorageError("it does not answer")))
    catalog.share(["model"])
    made = catalog.made_before(["model"], RECIPE.key)
    assert made["model"].content == read_version(version).content
    assert "model is not in the cache for others" in caplog.text
    assert "model is not taken from memory://away: it does not answer" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "storage"])
def test_what_the_key_of_the_cache_did_not_sign_as_it_is_there_is_not_taken(version, tmp_path, caplog, kind):
    address = str(tmp_path / "store") if kind == "folder" else f"memory://signed/{tmp_path.name}"
    ours, others, unsigned = (Store(address, is_cache=True, secret=secret) for secret in ("ours", "another", ""))

    def taken(store, entry="model"):
        return [found.run for found in store.versions(RECIPE.key, entry, "model.json")]

    ours.put(RECIPE.key, "model", "model.json", version)
    assert (taken(ours), taken(others), taken(unsigned)) == (["1"], [], ["1"])
    assert f"{RECIPE.key}/model/model.json/1 is not taken: it is not signed by the `key` of the cache" in caplog.text

    place = f"{address}/{RECIPE.key}/model/model.json/1"
    record = {name: _read(f"{place}/{name}") for name in ("provenance.json", "model.json", "_SUCCESS")}
    record = {name: content for name, content in record.items() if content is not None}
    for name, content in record.items():  # signed for another entry
        _write(f"{address}/{RECIPE.key}/other/model.json/1/{name}", content)
    for name, content in record.items():  # signed as another version, such as to seem newer
        _write(f"{address}/{RECIPE.key}/model/model.json/2/{name}", content)
    assert (taken(ours, "other"), taken(ours)) == ([], ["1"])

    for forged in ({"run": "forged"}, {"signature": 1}, {"signature": "é"}):
        changed = json.loads(record["provenance.json"]) | forged
        _write(f"{place}/provenance.json", json.dumps(changed).encode())
        assert taken(ours) == []


def test_a_result_of_ones_own_is_put_beside_one_that_is_not_signed(version, tmp_path):
    for kind, address in {"folder": str(tmp_path / "store"), "storage": f"memory://beside/{tmp_path.name}"}.items():
        Store(address, is_cache=True).put(RECIPE.key, "model", "model.json", version)
        later = version.with_name(f"2-{kind}")
        shutil.copytree(version, later)
        store = Store(address, is_cache=True, secret="ours")
        store.put(RECIPE.key, "model", "model.json", later)
        assert [found.version for found in store.versions(RECIPE.key, "model", "model.json")] == [f"2-{kind}"]


def _read(address):
    try:
        return Path(address).read_bytes() if "://" not in address else read(address, {})
    except FileNotFoundError:
        return None


def _write(address, content):
    with fsspec.open(address, "wb", auto_mkdir=True) as file:
        file.write(content)
