from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from kedro.io import DatasetError

from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.datasets.whole_files import ArraysDataset, WholeCSVDataset


def test_a_base_llm_is_loaded_and_never_written(tiny_llm_folder):
    dataset = CausalLMDataset(source=str(tiny_llm_folder), dtype="float32", device="cpu")
    assert dataset.load().name == str(tiny_llm_folder)
    with pytest.raises(DatasetError, match="read only"):
        dataset.save("a model")


def test_checkpoints_are_found_by_the_next_session(tmp_path):
    dataset, next_one = (CheckpointStoreDataset(filepath=f"{tmp_path}/checkpoints") for _ in range(2))
    dataset.recipe_key = next_one.recipe_key = "key"
    dataset.load().save(1, {"weights": torch.ones(2)}, {"step": 1})
    assert next_one.load().newest().values == {"step": 1}
    next_one.recipe_key = "another key"
    assert next_one.load().newest() is None
    next_one.clear()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("dataset_type", "name", "tables"),
    [
        (ArraysDataset, "arrays.safetensors", [{"a": np.arange(3)}, {"a": np.arange(9)}]),
        (WholeCSVDataset, "lists.csv", [pl.DataFrame({"a": range(rows)}) for rows in (3, 9)]),
    ],
)
def test_a_plain_file_is_replaced_as_a_whole(tmp_path, monkeypatch, dataset_type, name, tables):
    dataset = dataset_type(filepath=str(tmp_path / "new" / name))
    dataset.save(tables[0])

    def stop(*_):
        raise OSError("killed before the last step")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop)
        with pytest.raises(DatasetError, match="killed"):
            dataset.save(tables[1])
    assert list(dataset.load()["a"]) == [0, 1, 2]
    dataset.save(tables[1])
    assert list(dataset.load()["a"]) == [*range(9)]


def test_titles_and_reasons_of_a_csv_are_no_formulas_and_ids_stay_as_they_are(tmp_path):
    cells = ['=HYPERLINK("http://x")', "@x", "+1", "-1", "\t=1", "Heat - 2"]
    lines = pl.DataFrame(dict.fromkeys(("user_id", "item_id", "title", "because"), cells))
    dataset = WholeCSVDataset(filepath=str(tmp_path / "lists.csv"))
    dataset.save(lines)
    dataset.save(dataset.load())  # as forgetting does
    loaded = dataset.load()
    for name in lines.columns:
        mark = "'" if name in ("title", "because") else ""
        assert loaded[name].to_list() == [mark + cell for cell in cells[:-1]] + cells[-1:]
