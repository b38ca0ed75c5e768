"""Results by recipe are put and found in a folder and in an object storage alike."""

import pytest

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.storage import StorageError
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
