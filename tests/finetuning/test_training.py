from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from few_rows import (
    adapter_weights,
    few_rows_training,
    gates_decide,
    load_model,
    random_prompts,
    training_config,
    with_adapter,
    with_model,
    with_new_adapter,
)
from reclora_kedro.adapters.methods import load_adapter
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.distributed.group import Group
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.privacy import set_gradients
from reclora_kedro.finetuning.training import shuffled_steps, train_adapter
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget

VALIDATION = gates_decide(seed=1)


def train(model, config=None, rows=128, **adapter):
    few_shot = gates_decide(rows)
    adapted = with_new_adapter(model, few_shot, **adapter)
    return adapted, train_adapter(adapted, Clicks(few_shot), VALIDATION, config or training_config())


def test_gates_learn_what_only_they_know(tiny_model, tmp_path):
    routed = {"composition": "sum_of_products", "target_modules": ["o_proj", "down_proj"]}
    adapted, log = train(tiny_model, training_config(epochs=8), rows=192, **routed)
    assert log["validation_auc"].max() > 0.9
    assert log["rows"][-1] == 8 * 192
    assert not adapted.model.training
    scores = adapted.scores(VALIDATION, 400, "")
    kept = pytest.approx(log["validation_auc"].max(), abs=1e-9)  # the best weights, not the last ones
    assert roc_auc_score(VALIDATION.labels, scores) == kept
    adapted.model.save_pretrained(tmp_path)
    loaded = with_model(adapted, load_adapter(adapted.model.unload(), str(tmp_path), "target", 6))
    np.testing.assert_array_equal(loaded.scores(VALIDATION, 400, ""), scores)


def test_the_same_seed_gives_the_same_adapter_whatever_ran_before_in_the_process(tiny_llm_folder):
    runs = []
    for other_seed in (5, 6):
        model = load_model(tiny_llm_folder)
        torch.manual_seed(other_seed)
        np.random.seed(other_seed)  # noqa: NPY002 - the global generator is what must not matter
        before = torch.get_rng_state()
        runs.append(train(model, training_config(epochs=1), gate_dropout=0.5))
        assert torch.equal(torch.get_rng_state(), before)
    first, second = (adapter_weights(adapted.model) for adapted, _ in runs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def gradients(model, rows, budget=10_000, checkpointing=False, dropout=0.0):
    """Losses and gradients of a step's rows, with meta-LoRAs that are not zero."""
    prompts = gates_decide(32)
    adapted = with_new_adapter(model, prompts, gate_dropout=dropout)
    if checkpointing:
        adapted.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    weights = {name: w for name, w in adapted.model.named_parameters() if w.requires_grad}
    with torch.no_grad():
        for name, tensor in weights.items():
            if "reclora_B" in name:
                tensor.fill_(0.01)
    torch.manual_seed(0)
    budget = budget if isinstance(budget, TokenBudget) else TokenBudget(budget)
    losses = set_gradients(adapted, Clicks(prompts), rows, list(weights.values()), budget, Group())
    adapted.model.activation_checkpointing_disable()
    adapted.model.unload()
    return losses, {name: w.grad for name, w in weights.items()}


def assert_same(first, second):
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_splitting_a_step_into_batches_keeps_its_gradient(tiny_model):
    rows = np.random.default_rng(0).permutation(32)[:24]
    assert_same(gradients(tiny_model, rows, 10), gradients(tiny_model, rows))


def test_the_gradient_is_that_of_the_mean_loss(tiny_model):
    rows = np.arange(32)
    losses, whole = gradients(tiny_model, rows)
    parts = [gradients(tiny_model, part) for part in (rows[:8], rows[8:])]
    assert_same(losses, torch.cat([part[0] for part in parts]))
    for name, gradient in whole.items():
        assert_same(gradient, 0.25 * parts[0][1][name] + 0.75 * parts[1][1][name])


def test_the_gradient_is_that_of_the_answers_cross_entropy(tiny_model):
    model, prompts = with_adapter(tiny_model, gate_dropout=0.0), random_prompts()
    weights = [weights for weights in model.model.parameters() if weights.requires_grad]
    losses = set_gradients(model, Clicks(prompts), np.arange(9), weights, TokenBudget(400))
    scores = torch.sigmoid(model.logits(prompts.batch(range(9), model.device)).double())
    expected = -torch.where(torch.from_numpy(prompts.labels) == 1, scores, 1 - scores).log()
    torch.testing.assert_close(losses.double(), expected, atol=1e-6, rtol=1e-5)
    assert not losses.requires_grad
    for weight, gradient in zip(weights, torch.autograd.grad(expected.mean(), weights), strict=True):
        torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4)


def test_layers_computed_again_have_the_same_gradient_dropout_included(tiny_model):
    rows, passes = np.arange(32), []
    note = tiny_model.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    plain = gradients(tiny_model, rows, dropout=0.5)
    assert len(passes) == 1
    assert_same(gradients(tiny_model, rows, checkpointing=True, dropout=0.5), plain)
    assert len(passes) == 3
    note.remove()


@pytest.mark.parametrize("moment", ["forward", "backward"])
def test_a_step_that_exceeds_the_memory_keeps_its_gradient(moment, tiny_model, monkeypatch):
    rows, expected, logits = np.arange(32), gradients(tiny_model, np.arange(32)), AnswerModel.llm_logits

    def little_memory(model, batch):
        found = logits(model, batch)
        if len(batch.last) > 5 and moment == "forward":
            raise torch.OutOfMemoryError
        return found

    def out_of_memory(gradient):
        if len(gradient) > 5:
            raise torch.OutOfMemoryError

    # The first layer is the last that the backward pass meets: all others have their gradients by then.
    handle = tiny_model.model.model.layers[0].mlp.register_forward_hook(
        lambda module, inputs, output: output.register_hook(out_of_memory) and None if moment == "backward" else None
    )
    monkeypatch.setattr(AnswerModel, "llm_logits", little_memory)
    budget = TokenBudget(10_000)
    assert_same(gradients(tiny_model, rows, budget), expected)
    assert budget.tokens < 32 * 20 / 4
    handle.remove()


def test_only_the_adapter_changes(tiny_model):
    before = {name: weights.clone() for name, weights in tiny_model.model.named_parameters()}
    adapted, _ = train(tiny_model, training_config(epochs=1))
    base = adapted.model.unload()
    assert all(torch.equal(weights, before[name]) for name, weights in base.named_parameters())


def test_a_loss_that_is_not_finite_stops_the_training(tiny_model):
    with pytest.raises(FloatingPointError, match="lower finetuning's learning_rate"):
        train(tiny_model, training_config().model_copy(update={"learning_rate": float("inf")}))


def test_the_rows_of_a_loss_that_is_not_finite_are_named_and_the_last_checkpoint_stays(tiny_model, tmp_path):
    few_shot, store = gates_decide(128), CheckpointStore(tmp_path, "a training")
    config = training_config(epochs=1, rows_per_checkpoint=16)
    bad = shuffled_steps(Clicks(few_shot), config)[5][[2, 7]]
    few_shot = replace(few_shot, rows=few_shot.rows + 1000)
    adapted = with_new_adapter(tiny_model, few_shot)
    few_shot.gate_inputs.values[bad] = float("inf")
    named = f"{bad[0] + 1000}, {bad[1] + 1000}"
    with pytest.raises(FloatingPointError, match=f"loss is nan at step 6 of 8, in row {named} of the samples"):
        train_adapter(adapted, Clicks(few_shot), VALIDATION, config, store)
    kept = store.newest()
    assert kept.values["step"] == 5
    assert all(tensor.isfinite().all() for name, tensor in kept.tensors.items() if "random" not in name)


def test_a_gradient_that_is_not_finite_stops_before_the_step(tiny_model, monkeypatch):
    few_shot = gates_decide(16)
    adapted = with_new_adapter(tiny_model, few_shot)
    before = {name: weights.clone() for name, weights in adapted.model.named_parameters()}
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(FloatingPointError, match=r"gradient's norm is inf at step 1 of 8, in row \d+, "):
        train_adapter(adapted, Clicks(few_shot), VALIDATION, training_config())
    assert all(torch.equal(weights, before[name]) for name, weights in adapted.model.named_parameters())


def test_the_learning_rate_falls_to_zero_in_the_steps_that_run(tiny_model):
    _, log = train(tiny_model, training_config(epochs=1))
    assert log["learning_rate"].to_list() == pytest.approx([2e-2 * left / 8 for left in range(8, 0, -1)])


@pytest.mark.parametrize(("rows_per_validation", "expected"), [(1, [16, 32, 48]), (20, [32, 48]), (1000, [48])])
def test_validations_come_every_so_many_rows_and_at_the_end(rows_per_validation, expected, tiny_model):
    _, log = train(tiny_model, training_config(epochs=1, rows_per_validation=rows_per_validation), rows=48)
    validated = log.filter(pl.col("validation_auc").is_not_null())
    assert validated["rows"].to_list() == expected
    assert validated["gate_entropy"].is_between(0, 1).all()
    assert log["learning_rate"].max() <= 2e-2


def test_one_shared_lora_has_no_gates_to_log(tiny_model):
    _, log = train(tiny_model, training_config(epochs=1), num_meta_loras=1)
    assert log["gate_entropy"].null_count() == log.height


def test_gradient_checkpointing_changes_no_result(tiny_llm_folder):
    weights, log = few_rows_training(tiny_llm_folder, gradient_checkpointing=True, epochs=1)
    expected, expected_log = few_rows_training(tiny_llm_folder, epochs=1)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-3)
    assert log["validation_auc"].to_list() == pytest.approx(
        expected_log["validation_auc"].to_list(), abs=1e-3, nan_ok=True
    )
