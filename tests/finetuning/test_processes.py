import shutil
from contextlib import nullcontext

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save

from dying import DyingStore, TellingStore
from few_rows import adapter_weights, gates_decide, load_model, training_config, with_new_adapter
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import fine_tune
from reclora_kedro.llm.answer_model import AnswerModel


class RunEndedError(Exception):
    """Stands for whatever ends a run."""


class EndingStore(CheckpointStore):
    """A store after whose third checkpoint the run ends."""

    def save(self, step, *parts):
        if step == 4:
            raise RunEndedError
        return super().save(step, *parts)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_two_processes_go_on_from_a_checkpoint_as_one_does(tiny_llm_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    few_shot, validation = gates_decide(51), gates_decide(41, seed=1)  # 51 and 41 rows: the shares are unequal
    settings = {"epochs": 2, "rows_per_validation": 17, "rows_per_checkpoint": 16}

    def train(store, processes=1):
        # Each process draws its own dropout, so that only without it two processes compute what one does.
        model = with_new_adapter(load_model(tiny_llm_folder), few_shot, gate_dropout=0.0)
        log = fine_tune(model, Clicks(few_shot), validation, training_config(**settings, processes=processes), store)
        assert not model.model.training
        return adapter_weights(model.model), log

    with pytest.raises(RunEndedError):
        train(EndingStore(tmp_path / "one", "a training"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    expected, expected_log = train(CheckpointStore(tmp_path / "one", "a training"))
    with pytest.raises(RuntimeError, match="2 processes failed: process 0 terminated with signal SIGKILL"):
        train(DyingStore(tmp_path / "two", "a training"), processes=2)
    weights, log = train(TellingStore(tmp_path / "two", "a training"), processes=2)
    said = (tmp_path / "two.txt").read_text()
    for step, store, text in ((4, "one", caplog.text), (6, "two", said)):
        assert text.count(f"Fine-tuning continues at step {step} of 8, from the checkpoint {tmp_path / store}") == 1
    assert log["rows"].to_list() == expected_log["rows"].to_list()
    for column in ("train_loss", "validation_loss", "validation_auc", "gate_entropy"):
        np.testing.assert_allclose(log[column].to_numpy(), expected_log[column].to_numpy(), rtol=1e-3, err_msg=column)
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)
    newest = max((tmp_path / "two").glob("*/step-*"))
    assert load_file(newest)["random/torch"].shape[0] == 2  # of both processes


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_why_processes_failed_is_said(tiny_llm_folder):
    few_shot = gates_decide(16)
    model = with_new_adapter(load_model(tiny_llm_folder), few_shot)
    few_shot.gate_inputs.values[3] = float("nan")
    with pytest.raises(RuntimeError, match=r"2 processes failed: FloatingPointError: .*step 1 of 8, in row 3 of"):
        fine_tune(model, Clicks(few_shot), gates_decide(), training_config(processes=2))


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_on_its_gpu_again_after_processes_have_trained(tiny_model, monkeypatch, fails):
    few_shot, devices = gates_decide(16), []
    model = with_new_adapter(tiny_model, few_shot)

    def train_here(train, processes, step):
        if fails:
            raise RuntimeError("2 processes failed")
        return save(adapter_weights(model.model)), pl.DataFrame()

    monkeypatch.setattr(AnswerModel, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: devices.append(str(device)))
    monkeypatch.setattr("reclora_kedro.finetuning.training.train_in_processes", train_here)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        fine_tune(model, Clicks(few_shot), gates_decide(), training_config(processes=2))
    assert devices == ["cpu", "cuda"]


def test_fewer_gpus_than_processes_are_refused(tiny_model, monkeypatch):
    few_shot = gates_decide(16)
    model = with_new_adapter(tiny_model, few_shot)
    monkeypatch.setattr(AnswerModel, "device", torch.device("cuda"))
    with pytest.raises(ValueError, match=r"`processes` is 2, but this machine has 0 GPUs and each process takes one"):
        fine_tune(model, Clicks(few_shot), gates_decide(), training_config(processes=2))
