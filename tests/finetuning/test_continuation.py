"""An adapter that goes on learning."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from few_rows import adapter_weights, gates_decide, training_config, with_new_adapter
from reclora_kedro.finetuning import continuation
from reclora_kedro.finetuning.config import AdapterContinuationConfig
from reclora_kedro.finetuning.continuation import START, continue_adapter
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import proximal_term, train_adapter
from reclora_kedro.optimization import assign, copy_of

FEW_SHOT, VALIDATION = gates_decide(96), gates_decide(64, seed=1)
IS_NEW = np.arange(96) % 3 > 0
TRAINING = training_config(epochs=1, rows_per_validation=64)


def config(*safeguards, learning_rate=2e-2):
    config = AdapterContinuationConfig(few_shot=64, learning_rate=learning_rate, safeguard=safeguards)
    return config.model_copy(update={"replay": 1 / 3})


@pytest.fixture
def adapted(tiny_model):
    model = with_new_adapter(tiny_model, FEW_SHOT)
    train_adapter(model, Clicks(gates_decide(32, seed=2)), VALIDATION, TRAINING)
    model.model.requires_grad_(False)
    return model


def test_the_proximal_term_is_the_divergence_of_the_softmaxed_matrices():
    random = np.random.default_rng(0)
    now, before = ({name: random.normal(size=shape) for name, shape in (("A", (3, 5)), ("B", (7, 2)))} for _ in "ab")
    expected = 0.0
    for name, matrix in now.items():
        p, q = log_softmax(matrix, axis=None), log_softmax(before[name], axis=None)
        expected += float(np.sum(np.exp(p) * (p - q)))
    tensors = [{name: torch.from_numpy(matrix) for name, matrix in state.items()} for state in (now, before)]
    assert proximal_term(*tensors).item() == pytest.approx(expected, rel=1e-12)


def test_the_proximal_term_holds_an_adapter_by_its_weight(adapted):
    adapted.model.set_adapter("default")
    weights = {name: weight for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    start, moved = copy_of(weights), []
    for proximal_weight in (None, 0.0, 1e5):
        for name, weight in weights.items():
            weight.data.copy_(start[name])
        held = {} if proximal_weight is None else {"proximal_weight": proximal_weight}
        train_adapter(adapted, Clicks(FEW_SHOT), VALIDATION, TRAINING, **held)
        moved.append(copy_of(weights))
    plain, none, strong = moved
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    assert proximal_term(strong, start) < proximal_term(plain, start) / 10


def test_the_best_safeguard_is_kept_and_each_starts_from_the_adapter(adapted, monkeypatch):
    seen, start = [], copy_of(adapter_weights(adapted.model))

    def learn(model, rows, validation, training, proximal_weight):
        weights = adapter_weights(model.model)
        assert all(torch.equal(weights[name], value) for name, value in start.items())
        seen.append((len(rows), proximal_weight, training.learning_rate))
        return train_adapter(model, rows, validation, training, proximal_weight=proximal_weight)

    monkeypatch.setattr(continuation, "fine_tune", learn)
    log = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("none", "replay", "proximal"), TRAINING)
    assert seen == [(64, 0.0, 2e-2), (96, 0.0, 2e-2), (64, 1.0, 2e-2)]
    assert log["safeguard"].unique(maintain_order=True).to_list() == [START, "none", "replay", "proximal"]
    assert log["validation_auc"].max() > log["validation_auc"][0]
    auc = roc_auc_score(VALIDATION.labels, adapted.scores(VALIDATION, 400, ""))
    assert auc == pytest.approx(log["validation_auc"].max(), abs=1e-9)
    assert not any(weight.requires_grad for weight in adapted.model.parameters())


def test_a_short_term_lora_is_the_mean_of_what_was_and_what_new_rows_taught(adapted, monkeypatch):
    start, trainings = copy_of(adapter_weights(adapted.model)), []

    def learn(*arguments, **held):
        trainings.append(train_adapter(*arguments, **held))
        return trainings[-1]

    def auc():
        return roc_auc_score(VALIDATION.labels, adapted.scores(VALIDATION, 400, ""))

    monkeypatch.setattr(continuation, "fine_tune", learn)
    both = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("none", "short_term"), TRAINING)
    assert len(trainings) == 1  # what `none` has learned is not learned again
    assign(adapter_weights(adapted.model), start)
    log = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("short_term"), TRAINING)
    assert log["validation_auc"][1] > log["validation_auc"][0]
    left = copy_of(adapter_weights(adapted.model))

    adapted.model.set_adapter("default")
    assign(adapter_weights(adapted.model), start)
    alone, training = FEW_SHOT.take(np.flatnonzero(IS_NEW)), TRAINING.model_copy(update={"learning_rate": 2e-2})
    train_adapter(adapted, Clicks(alone), VALIDATION, training)
    learned = copy_of(adapter_weights(adapted.model))
    mean = {name: np.mean([start[name], learned[name]], axis=0) for name in start}
    for name, weights in mean.items():
        np.testing.assert_allclose(left[name], weights, rtol=1e-6, atol=1e-8)
    assign(adapter_weights(adapted.model), start)
    again = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("short_term"), TRAINING)
    assert again["validation_auc"][-1] == pytest.approx(log["validation_auc"][-1], abs=1e-9)
    assign(adapter_weights(adapted.model), left)
    assert [log["validation_auc"][-1], both["validation_auc"][-1]] == pytest.approx([auc()] * 2, abs=1e-9)


def test_an_adapter_that_nothing_betters_stays(adapted, monkeypatch):
    start = copy_of(adapter_weights(adapted.model))
    log = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("none", learning_rate=1e-9), TRAINING)
    assert log["validation_auc"].arg_max() == 0
    assert all(torch.equal(value, start[name]) for name, value in adapter_weights(adapted.model).items())

    monkeypatch.setattr(continuation, "fine_tune", lambda *_, **__: log[:1])
    untaught = continue_adapter(adapted, FEW_SHOT, IS_NEW, VALIDATION, config("short_term"), TRAINING)
    assert untaught["validation_auc"].to_list() == [log["validation_auc"][0]] * 2
    assert all(torch.equal(value, start[name]) for name, value in adapter_weights(adapted.model).items())
