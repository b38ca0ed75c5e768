"""Folders whose files belong together, saved and loaded through a catalog."""

import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
import torch
from kedro.io import DataCatalog, DatasetError
from safetensors.torch import load_file

from few_rows import adapter_weights
from kedro_provenance.catalog import AtomicCatalog
from random_encoder import save_random_encoder
from random_llama import random_llama, with_random_adapter
from random_logs import log_of
from reclora_kedro.adapters.methods import load_adapter, user_loras
from reclora_kedro.candidates.next_item.base import build_retriever
from reclora_kedro.candidates.next_item.config import RetrieverConfig, RetrieverSizes
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

TYPES = {
    "log": "reclora_kedro.datasets.folders.InteractionLogDataset",
    "embedded_log": "reclora_kedro.datasets.folders.EmbeddedLogDataset",
    "lens": "reclora_kedro.datasets.folders.LensDataset",
    "retriever": "reclora_kedro.datasets.folders.RetrieverDataset",
    "item_encoder": "reclora_kedro.datasets.folders.ItemEncoderDataset",
    "adapter": "reclora_kedro.datasets.folders.PeftAdapterDataset",
    "user_adapters": "reclora_kedro.datasets.folders.UserAdaptersDataset",
}
FILES = [
    ("log", "items.parquet"),
    ("log", "users.parquet"),
    ("log", "samples.arrow"),
    ("log", "sequences.safetensors"),
    ("embedded_log", "item_embeddings.safetensors"),
    ("lens", "lens.json"),
    ("lens", "lens.safetensors"),
    ("retriever", "retriever.json"),
    ("retriever", "retriever.safetensors"),
    ("item_encoder", "model.safetensors"),
    ("item_encoder", "modules.json"),
    ("adapter", "adapter_config.json"),
    ("adapter", "adapter_model.safetensors"),
]


def some_log(seed):
    ratings = np.random.default_rng(seed).choice([2.0, 5.0], 8)
    interactions = pl.DataFrame(
        {
            "user_id": ["ann", "bob"] * 4,
            "item_id": [3, 3, 5, 8, 13, 13, 21, 5],
            "timestamp": range(8),
            "rating": ratings,
            "label": (ratings > 3).astype(np.int8),
        }
    )
    log = log_of(interactions)
    return replace(log, samples=log.samples.with_columns(split=pl.lit("train")))


def some_embedded_log(seed):
    log = some_log(seed)
    return log.with_embeddings(np.random.default_rng(seed).normal(size=(log.items.height, 4)))


def some_lens(seed):
    config = LensConfig(
        model="sim", training_rows="all", recent_length=5, long_history=WindowConfig(kind="recent", k=6),
        rating_statistics=True, statistics_delay=0, item_text=True, item_text_dropout=0.2, embedding_dim=8,
        hidden_dim=16, dropout=0.2, user_id_dropout=0.3, item_id_dropout=0.1,
        field_min_count=2, learning_rate=0.01, weight_decay=0.0, batch_size=32, batch_parts=1, max_epochs=2, patience=1,
        seed=0, device="cpu",
    )  # fmt: skip
    sizes = LensSizes(
        users=4, user_fields={"age": ("1", "2", "3")}, user_width=2, items=5, item_fields={"genres": ("a", "b")},
        item_width=3, item_text_widths=(1, 2), rating_levels=2, rating_range=(1, 5), trained_until=9,
    )  # fmt: skip
    torch.manual_seed(seed)
    return build_lens(config, sizes).freeze()


def some_retriever(seed):
    torch.manual_seed(seed)
    config = RetrieverConfig(
        model="sasrec", item_ids=True, item_text=True, item_id_dropout=0.1, length=5, dim=8, layers=1, heads=2,
        dropout=0.1, learning_rate=0.01, weight_decay=0.0,
        batch_size=8, batch_parts=1, max_epochs=1, patience=1, seed=0, device="cpu",
    )  # fmt: skip
    return build_retriever(config, RetrieverSizes(items=5, item_text_width=3)).freeze()


def some_encoder(seed):
    with TemporaryDirectory() as folder:
        save_random_encoder(Path(folder), "abc", seed)
        return load_sentence_encoder(folder, device="cpu")


def some_adapter(seed):
    return with_random_adapter(random_llama(1), 0.1 * seed, num_meta_loras=2, gate_dim=4, gate_input="user")


def some_users(seed):
    return user_loras(some_adapter(seed), torch.randn(3, 4), [seed, "anna", "o/.."])


MAKERS = {
    "log": some_log,
    "embedded_log": some_embedded_log,
    "lens": some_lens,
    "retriever": some_retriever,
    "item_encoder": some_encoder,
    "adapter": some_adapter,
    "user_adapters": some_users,
}


def assert_log(loaded, saved):
    for part in ("items", "users", "samples"):
        assert getattr(loaded, part).equals(getattr(saved, part))
    assert loaded.sequences.schema == saved.sequences.schema
    for name, column in saved.sequences.columns.items():
        found = getattr(loaded.sequences, name)
        assert found.dtype == column.dtype
        np.testing.assert_array_equal(found, column)
    np.testing.assert_array_equal(loaded.item_embeddings, saved.item_embeddings)


def assert_module(loaded, saved):
    assert (loaded.config, loaded.sizes) == (saved.config, saved.sizes)
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], weights) for name, weights in saved.state_dict().items())
    assert not any(weights.requires_grad for weights in loaded.parameters())


def assert_encoder(loaded, saved):
    assert (loaded.pooling, loaded.tokenize(["a c"], 9)) == (saved.pooling, saved.tokenize(["a c"], 9))
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in saved.model.state_dict().items())


def assert_adapter(folder, saved):
    found, expected = (adapter_weights(model) for model in (load_adapter(random_llama(1), folder), saved))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def assert_users(folder, saved):
    assert {path.name for path in Path(folder).iterdir()} == {"README.md", *saved.folders}
    expected = saved.tensors(slice(None))
    for place, name in enumerate(saved.folders):
        weights = load_file(Path(folder, name, "adapter_model.safetensors"))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[path], factors[place]) for path, factors in expected.items())
        for path, factors in saved.tensors(slice(place, place + 1)).items():
            torch.testing.assert_close(weights[path], factors[0])


CHECKS = {
    "log": assert_log,
    "embedded_log": assert_log,
    "lens": assert_module,
    "retriever": assert_module,
    "item_encoder": assert_encoder,
    "adapter": assert_adapter,
    "user_adapters": assert_users,
}


@pytest.fixture
def catalog(tmp_path):
    """Function of a version to the catalog of a session that saves it."""
    entries = {
        name: {"type": kind, "filepath": f"{tmp_path}/{name}", "versioned": True, "metadata": {"layer": "models"}}
        for name, kind in TYPES.items()
    }
    return lambda version, **load_versions: AtomicCatalog.from_config(
        entries, save_version=version, load_versions=load_versions
    )


@pytest.mark.parametrize("name", TYPES)
def test_every_version_is_kept_and_loads_as_it_was_saved(name, catalog, tmp_path):
    assert not catalog("0").exists(name)
    data = {version: MAKERS[name](int(version)) for version in ("1", "2")}
    for version, each in data.items():
        session = catalog(version)
        session.save(name, each)
        CHECKS[name](session.load(name), each)
    later = catalog("3")
    assert later.exists(name)
    CHECKS[name](later.load(name), data["2"])
    CHECKS[name](catalog("3", **{name: "1"}).load(name), data["1"])
    assert {folder.name for folder in (tmp_path / name).iterdir()} == {"1", "2"}


@pytest.mark.parametrize("name", TYPES)
def test_a_folder_without_versions_is_saved_and_loaded(name, tmp_path):
    catalog = DataCatalog.from_config({name: {"type": TYPES[name], "filepath": f"{tmp_path}/deep/{name}"}})
    assert not catalog.exists(name)
    data = MAKERS[name](1)
    catalog.save(name, data)
    assert catalog.exists(name)
    CHECKS[name](catalog.load(name), data)


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("share", [None, 0, 0.5, 0.99])
def test_half_a_folder_does_not_exist_and_is_refused_by_its_file(name, file, share, catalog, tmp_path):
    catalog("1").save(name, MAKERS[name](1))
    torn = tmp_path / name / "1" / name / file
    if share is None:
        torn.unlink()
    else:
        os.truncate(torn, int(share * torn.stat().st_size))
    later = catalog("2")
    assert not later.exists(name)
    what = "missing" if share is None else r"cut short or damaged \("
    with pytest.raises(DatasetError, match=f"{torn.parent} is incomplete: {file} is {what}.*--load-versions"):
        later.load(name)


def test_users_adapters_without_their_readme_are_not_whole(catalog, tmp_path):
    catalog("1").save("user_adapters", some_users(1))
    (tmp_path / "user_adapters/1/user_adapters/README.md").unlink()
    later = catalog("2")
    assert not later.exists("user_adapters")
    with pytest.raises(DatasetError, match=r"incomplete: README\.md is missing"):
        later.load("user_adapters")


def test_all_missing_files_are_named(catalog, tmp_path):
    catalog("1").save("lens", some_lens(1))
    for file in ("lens.json", "lens.safetensors"):
        (tmp_path / "lens/1/lens" / file).unlink()
    with pytest.raises(DatasetError, match=r"lens\.json.*lens\.safetensors.* missing"):
        catalog("2").load("lens")


def test_an_adapter_folder_holds_no_pickle(catalog):
    catalog("1").save("adapter", some_adapter(1))
    folder = Path(catalog("2").load("adapter"))
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "RECLORA"


def preview(catalog, name, **options):
    catalog("1").save(name, MAKERS[name](1))
    return catalog("2").get(name).preview(**options)


def test_the_preview_of_a_log_is_its_first_samples(catalog):
    shown = preview(catalog, "log", nrows=3)
    samples = some_log(1).samples
    assert shown["columns"] == samples.columns
    assert [tuple(row) for row in shown["data"]] == samples.head(3).rows()


def test_the_preview_of_a_lens_is_its_settings_and_sizes(catalog):
    shown = json.loads(preview(catalog, "lens"))
    assert (shown["lens"]["model"], shown["sizes"]["items"]) == ("sim", 5)


def test_the_preview_of_an_adapter_is_its_configuration(catalog):
    shown = json.loads(preview(catalog, "adapter"))
    assert (shown["num_meta_loras"], shown["gate_input"]) == (2, "user")


def test_the_preview_of_users_adapters_is_what_they_share(catalog):
    shown = json.loads(preview(catalog, "user_adapters"))
    assert (shown["adapters"], shown["peft_type"], shown["r"]) == (3, "LORA", 8)


def test_users_loras_that_have_not_changed_are_not_written_again(tmp_path):
    kind = "reclora_kedro.datasets.folders.UserAdaptersDataset"
    entry, loras = {"type": kind, "filepath": str(tmp_path / "users"), "versioned": True}, some_users(1)
    for version in "12":
        AtomicCatalog.from_config({"users": entry}, save_version=version).save("users", loras)
    one, two = sorted(tmp_path.glob("users/*/users/user_anna/adapter_model.safetensors"))
    assert one.samefile(two)
