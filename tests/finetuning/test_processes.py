import json
import logging
import shutil
from operator import attrgetter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from few_rows import (
    GATE_DIM,
    adapter_weights,
    gates_decide,
    load_model,
    random_prompts,
    training_config,
    with_new_adapter,
)
from killing import killing_environment
from reclora_kedro.finetuning.checkpoints import CheckpointStore
from reclora_kedro.finetuning.processes import read_prompts, train_in_processes, write_job
from reclora_kedro.finetuning.training import TrainingConfig


class RunEndedError(Exception):
    """Stands for whatever ends a run."""


class EndingStore(CheckpointStore):
    """A store after whose third checkpoint the run ends."""

    def save(self, step, *parts):
        if step == 4:
            raise RunEndedError
        return super().save(step, *parts)


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_as_one_does(tiny_llm_folder, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    few_shot, validation = gates_decide(51), gates_decide(41, seed=1)  # 51 and 41 rows: the shares are unequal
    settings = {"epochs": 2, "swa_ratio": 0.5, "rows_per_validation": 17, "rows_per_checkpoint": 16}

    def train(store, processes=1):
        # Each process draws its own dropout, so that only without it two processes compute what one does.
        model = with_new_adapter(load_model(tiny_llm_folder), few_shot, gate_dropout=0.0)
        log = train_in_processes(model, few_shot, validation, training_config(**settings, processes=processes), store)
        assert not model.model.training
        return adapter_weights(model.model), log

    with pytest.raises(RunEndedError):
        train(EndingStore(tmp_path / "one", "a training"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    expected, expected_log = train(CheckpointStore(tmp_path / "one", "a training"))
    with monkeypatch.context() as patch:
        for name, value in killing_environment(tmp_path / "killing", "moved:2").items():
            patch.setenv(name, value)
        with pytest.raises(RuntimeError, match="2 processes failed, with exit code 1"):
            train(CheckpointStore(tmp_path / "two", "a training"), processes=2)
    weights, log = train(CheckpointStore(tmp_path / "two", "a training"), processes=2)
    for step, store in ((4, "one"), (4, "two"), (6, "two")):
        assert f"Fine-tuning continues at step {step} of 8, from the checkpoint {tmp_path / store}" in caplog.text
    assert log["rows"].to_list() == expected_log["rows"].to_list()
    for column in ("train_loss", "validation_loss", "validation_auc", "gate_entropy"):
        np.testing.assert_allclose(log[column].to_numpy(), expected_log[column].to_numpy(), rtol=1e-3, err_msg=column)
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)
    newest = max((tmp_path / "two").glob("*/step-*"))
    assert load_file(newest)["random/torch"].shape[0] == 2  # of both processes


@pytest.mark.slow
def test_why_processes_failed_is_said(tiny_llm_folder):
    few_shot = gates_decide(16)
    model = with_new_adapter(load_model(tiny_llm_folder), few_shot)
    few_shot.gate_inputs.values[3] = float("nan")
    with pytest.raises(RuntimeError, match=r"(?s)2 processes failed, .*FloatingPointError: .*step 1 of 8, in row 3 of"):
        train_in_processes(model, few_shot, gates_decide(), training_config(processes=2))


def test_a_job_reads_as_it_was_written(tiny_model, tmp_path):
    prompts = {"few_shot": random_prompts(9), "validation": gates_decide(5, gate_dim=GATE_DIM, seed=1)}
    model, config = with_new_adapter(tiny_model, prompts["few_shot"]), training_config(patience=2)
    write_job(tmp_path, model, prompts, config)
    read = {use: read_prompts(tmp_path, use) for use in prompts}
    for use, written in prompts.items():
        assert read[use].token_ids == written.token_ids
        assert read[use].gate_inputs.name == written.gate_inputs.name
        for part in ("rows", "labels", "gate_inputs.rows", "gate_inputs.values", "gate_inputs.lens_logits"):
            np.testing.assert_array_equal(attrgetter(part)(read[use]), attrgetter(part)(written), part)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert TrainingConfig(**settings["training"]) == config
