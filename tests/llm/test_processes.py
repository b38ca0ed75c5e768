import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from few_rows import FORM, adapted_llm, lens_decides, training_config
from killing import killing_environment
from reclora_kedro.llm.checkpoints import CheckpointStore
from reclora_kedro.llm.processes import read_prompts, train_in_processes, write_job


class RunEndedError(Exception):
    """Stands for whatever ends a run."""


class EndingStore(CheckpointStore):
    """A store after whose third checkpoint the run ends."""

    def save(self, run, step, *parts):
        if step == 4:
            raise RunEndedError
        return super().save(run, step, *parts)


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_as_one_does(tiny_llm_folder, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    few_shot, validation = lens_decides(51), lens_decides(41, seed=1)  # 51 and 41 rows: the shares are unequal
    settings = {"epochs": 2, "averaged_share": 0.5, "rows_per_validation": 17, "rows_per_checkpoint": 16}

    def train(store, processes=1):
        # Each process draws its own dropout, so that only without it two processes compute what one does.
        llm = adapted_llm(tiny_llm_folder, few_shot, gate_dropout=0.0)
        log = train_in_processes(
            llm, FORM, few_shot, validation, training_config(**settings, processes=processes), store
        )
        assert not llm.model.training
        return {name: weights.detach() for name, weights in llm.model.named_parameters() if "reclora" in name}, log

    with pytest.raises(RunEndedError):
        train(EndingStore(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    expected, expected_log = train(CheckpointStore(tmp_path / "one"))
    with monkeypatch.context() as patch:
        for name, value in killing_environment(tmp_path / "killing", "moved:2").items():
            patch.setenv(name, value)
        with pytest.raises(RuntimeError, match="2 processes failed, with exit code 1"):
            train(CheckpointStore(tmp_path / "two"), processes=2)
    weights, log = train(CheckpointStore(tmp_path / "two"), processes=2)
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
    few_shot = lens_decides(16)
    few_shot.lens_states[3] = float("nan")
    config = training_config(processes=2)
    with pytest.raises(RuntimeError, match=r"(?s)2 processes failed, .*FloatingPointError: .*step 1 of 8, in row 3 of"):
        train_in_processes(adapted_llm(tiny_llm_folder, lens_decides(16)), FORM, few_shot, lens_decides(), config)


def test_a_job_reads_as_it_was_written(tiny_llm_folder, tmp_path):
    few_shot, validation = lens_decides(9), lens_decides(5, seed=1)
    write_job(tmp_path, adapted_llm(tiny_llm_folder, few_shot), FORM, few_shot, validation, training_config())
    for use, prompts in (("few_shot", few_shot), ("validation", validation)):
        read = vars(read_prompts(tmp_path, use))
        for name, part in vars(prompts).items():
            assert part is read[name] or np.array_equal(np.array(part, object), np.array(read[name], object)), name
