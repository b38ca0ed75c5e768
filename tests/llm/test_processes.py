import logging

import numpy as np
import pytest
import torch

from few_rows import FORM, adapter_config, lens_decides, training_config
from reclora_kedro.adapters.personalized import new_adapter
from reclora_kedro.llm.checkpoints import CheckpointStore
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.processes import read_prompts, train_in_processes, write_job
from reclora_kedro.llm.training import fingerprint


def adapted_llm(folder, few_shot, **settings):
    llm = load_language_model(str(folder), dtype="float32", device="cpu")
    # Each process draws its own dropout, so that only without it two processes compute what one does.
    config = adapter_config(gate_dropout=0.0, **settings)
    return llm.with_model(new_adapter(llm.model, config, few_shot.lens_states, seed=3))


def test_two_processes_learn_what_one_does_and_go_on_from_its_checkpoint(tiny_llm_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    few_shot, validation = lens_decides(51), lens_decides(41, seed=1)  # 51 and 41 rows: the shares are unequal
    settings = {"epochs": 2, "averaged_share": 0.5, "rows_per_validation": 17, "rows_per_checkpoint": 16}
    logs, states, stores = [], [], [CheckpointStore(tmp_path / name) for name in "ab"]
    for store, processes in zip(stores, (1, 2), strict=True):
        llm = adapted_llm(tiny_llm_folder, few_shot)
        config = training_config(**settings, processes=processes)
        logs.append(train_in_processes(llm, FORM, few_shot, validation, config, store))
        assert not llm.model.training
        states.append({n: w.detach() for n, w in llm.model.named_parameters() if "reclora" in n})
    for column in logs[0].columns:
        if column != "seconds":
            np.testing.assert_allclose(logs[0][column].to_numpy(), logs[1][column].to_numpy(), rtol=1e-3, atol=1e-4)
    assert set(states[0]) == set(states[1])
    for name, weights in states[0].items():
        torch.testing.assert_close(weights, states[1][name], rtol=1e-3, atol=1e-3)
    assert "validation AUC" in caplog.text

    llm = adapted_llm(tiny_llm_folder, few_shot)
    run = fingerprint(llm, FORM, few_shot, validation, config)
    first, last = (next((tmp_path / "a" / run).glob(f"step-0000000{step}-*")) for step in (7, 8))
    last.unlink()  # the run in one process was interrupted here, and goes on in two
    train_in_processes(llm, FORM, few_shot, validation, config, stores[0])
    assert f"Fine-tuning continues at step 8 of 8, from the checkpoint {first}" in caplog.text
    for name, weights in llm.model.named_parameters():
        if "reclora" in name:
            torch.testing.assert_close(weights, states[0][name], rtol=1e-3, atol=1e-3)


def test_why_processes_failed_is_said(tiny_llm_folder, tmp_path):
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
