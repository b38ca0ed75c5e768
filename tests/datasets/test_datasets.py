import pytest
import torch
from kedro.io import DatasetError

from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset


def test_a_base_llm_is_loaded_and_never_written(tiny_llm_folder):
    dataset = CausalLMDataset(source=str(tiny_llm_folder), dtype="float32", device="cpu")
    assert dataset.load().name == str(tiny_llm_folder)
    with pytest.raises(DatasetError, match="read only"):
        dataset.save("a model")


def test_checkpoints_are_found_by_the_next_session_and_not_saved_by_kedro(tmp_path):
    dataset = CheckpointStoreDataset(filepath=f"{tmp_path}/checkpoints")
    dataset.load().save("run", 1, {"weights": torch.ones(2)}, {"step": 1})
    assert CheckpointStoreDataset(filepath=f"{tmp_path}/checkpoints").load().newest("run").values == {"step": 1}
    with pytest.raises(DatasetError, match="the training writes them itself"):
        dataset.save("a checkpoint")
