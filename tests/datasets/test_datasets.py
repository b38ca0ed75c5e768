import json
import os

import pytest
import torch
from kedro.io import DatasetError, Version
from peft import get_peft_model

from reclora_kedro.adapters.personalized import load_adapter
from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.datasets.peft_adapter import PeftAdapterDataset


def test_a_base_llm_is_loaded_and_never_written(tiny_llm_folder):
    dataset = CausalLMDataset(source=str(tiny_llm_folder), dtype="float32", device="cpu")
    assert dataset.load().name == str(tiny_llm_folder)
    with pytest.raises(DatasetError, match="read only"):
        dataset.save("a model")


def peft_model(llm):
    return get_peft_model(llm.model, RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=2, lens_dim=4))


def test_every_version_of_an_adapter_is_kept_and_loads(tiny_llm, tmp_path):
    model = peft_model(tiny_llm)
    weights = {name: w.clone() for name, w in model.named_parameters() if w.requires_grad}
    for version in ("1", "2"):
        PeftAdapterDataset(filepath=f"{tmp_path}/adapter", version=Version(None, version)).save(model)
    newest = PeftAdapterDataset(filepath=f"{tmp_path}/adapter", version=Version(None, None))
    assert newest.exists()
    assert newest.resolve_load_version() == "2"
    assert newest.preview()["num_meta_loras"] == 2
    loaded = load_adapter(model.unload(), newest.load())
    assert all(torch.equal(dict(loaded.named_parameters())[name], w) for name, w in weights.items())
    assert not list(tmp_path.glob("**/.draft-*"))


def test_no_adapter_exists_before_one_is_saved(tmp_path):
    assert not PeftAdapterDataset(filepath=f"{tmp_path}/adapter", version=Version(None, None)).exists()


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("share", [None, 0, 0.5, 0.99])
def test_half_an_adapter_does_not_exist_and_says_so(tiny_llm, tmp_path, file, share):
    PeftAdapterDataset(filepath=f"{tmp_path}/adapter", version=Version(None, "1")).save(peft_model(tiny_llm))
    torn = tmp_path / "adapter/1/adapter" / file
    if share is None:
        torn.unlink()
    else:
        os.truncate(torn, int(share * torn.stat().st_size))
    dataset = PeftAdapterDataset(filepath=f"{tmp_path}/adapter", version=Version("1", None))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=f"no whole adapter in {torn.parent}: {file} is (missing|cut short)"):
        dataset.load()


def test_an_adapter_folder_holds_no_pickle(tiny_llm, tmp_path):
    PeftAdapterDataset(filepath=f"{tmp_path}/adapter").save(peft_model(tiny_llm))
    files = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["peft_type"] == "RECLORA"


def test_checkpoints_are_found_by_the_next_session_and_not_saved_by_kedro(tmp_path):
    dataset = CheckpointStoreDataset(filepath=f"{tmp_path}/checkpoints")
    dataset.load().save("run", 1, {"weights": torch.ones(2)}, {"step": 1})
    assert CheckpointStoreDataset(filepath=f"{tmp_path}/checkpoints").load().newest("run").values == {"step": 1}
    with pytest.raises(DatasetError, match="the training writes them itself"):
        dataset.save("a checkpoint")
