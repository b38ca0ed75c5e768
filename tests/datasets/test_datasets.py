from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from reclora_kedro.datasets.arrays import ArraysDataset
from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset


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


def test_arrays_replace_a_file_as_a_whole(tmp_path, monkeypatch):
    dataset = ArraysDataset(filepath=str(tmp_path / "new/arrays.safetensors"))
    dataset.save({"a": np.arange(3)})

    def stop(*_):
        raise OSError("killed before the last step")

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(DatasetError, match="killed"):
        dataset.save({"a": np.arange(9)})
    assert dataset.load()["a"].tolist() == [0, 1, 2]
