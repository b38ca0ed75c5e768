import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.optim.optimizer import register_optimizer_step_post_hook

from few_rows import FORM, adapter_config, lens_decides, training_config
from reclora_kedro.adapters.personalized import load_adapter, new_adapter
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.scoring import score_prompts
from reclora_kedro.llm.training import set_gradients, train_adapter


def train(llm, config=None, rows=128, **adapter):
    few_shot = lens_decides(rows)
    adapted = llm.with_model(new_adapter(llm.model, adapter_config(**adapter), few_shot.lens_states, seed=3))
    log = train_adapter(adapted, FORM, few_shot, lens_decides(seed=1), config or training_config())
    return adapted, log


def test_gates_learn_what_only_the_lens_knows(tiny_llm, tmp_path):
    routed = {"composition": "sum_of_products", "target_modules": ("o_proj", "down_proj")}
    adapted, log = train(tiny_llm, training_config(epochs=16), rows=512, **routed)
    assert log["validation_auc"].max() > 0.9
    assert log["rows"][-1] == 16 * 512
    assert not adapted.model.training
    scores = score_prompts(adapted, FORM, lens_decides(seed=1), 400, "")
    adapted.model.save_pretrained(tmp_path)
    loaded = adapted.with_model(load_adapter(adapted.model.unload(), str(tmp_path)))
    np.testing.assert_array_equal(score_prompts(loaded, FORM, lens_decides(seed=1), 400, ""), scores)


def test_the_best_validated_checkpoint_is_kept(tiny_llm):
    adapted, log = train(tiny_llm)
    from sklearn.metrics import roc_auc_score

    validation = lens_decides(seed=1)
    auc = roc_auc_score(validation.labels, score_prompts(adapted, FORM, validation, 400, ""))
    assert auc == pytest.approx(log["validation_auc"].max(), abs=1e-9)


def test_the_average_of_the_last_steps_is_kept(tiny_llm):
    seen = []
    note = register_optimizer_step_post_hook(
        lambda optimizer, *_: seen.append([w.detach().clone() for w in optimizer.param_groups[0]["params"]])
    )
    adapted, _ = train(tiny_llm, training_config(epochs=1, averaged_share=0.5))
    note.remove()
    assert len(seen) == 8
    kept = [weights for weights in adapted.model.parameters() if weights.requires_grad]
    for weights, *steps in zip(kept, *seen[4:], strict=True):
        torch.testing.assert_close(weights, torch.stack(steps).mean(0), atol=1e-6, rtol=1e-5)


def test_the_same_seed_gives_the_same_adapter(tiny_llm_folder):
    from reclora_kedro.llm.language_model import load_language_model

    states = []
    for _ in range(2):
        llm = load_language_model(str(tiny_llm_folder), dtype="float32", device="cpu")
        adapted, _ = train(llm, training_config(epochs=1))
        states.append({name: w for name, w in adapted.model.named_parameters() if w.requires_grad})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def gradients(llm, rows, budget=10_000, checkpointing=False, dropout=0.0):
    """Losses and gradients of a step's rows, with meta-LoRAs that are not zero."""
    prompts = lens_decides(32)
    adapted = llm.with_model(new_adapter(llm.model, adapter_config(gate_dropout=dropout), prompts.lens_states, 3))
    if checkpointing:
        adapted.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = {name: w for name, w in adapted.model.named_parameters() if w.requires_grad}
    with torch.no_grad():
        for name, tensor in weights.items():
            if "reclora_B" in name:
                tensor.fill_(0.01)
    torch.manual_seed(0)
    budget = budget if isinstance(budget, TokenBudget) else TokenBudget(budget)
    losses = set_gradients(adapted, FORM, prompts, rows, weights.values(), budget, Accelerator())
    adapted.model.gradient_checkpointing_disable()
    adapted.model.unload()
    return losses, {name: w.grad for name, w in weights.items()}


def assert_same(first, second):
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_splitting_a_step_into_batches_keeps_its_gradient(tiny_llm):
    rows = np.random.default_rng(0).permutation(32)[:24]
    assert_same(gradients(tiny_llm, rows, 10), gradients(tiny_llm, rows))


def test_the_gradient_is_that_of_the_mean_loss(tiny_llm):
    rows = np.arange(32)
    losses, whole = gradients(tiny_llm, rows)
    parts = [gradients(tiny_llm, part) for part in (rows[:8], rows[8:])]
    assert_same(losses, torch.cat([part[0] for part in parts]))
    for name, gradient in whole.items():
        assert_same(gradient, 0.25 * parts[0][1][name] + 0.75 * parts[1][1][name])


def test_layers_computed_again_have_the_same_gradient_dropout_included(tiny_llm):
    rows = np.arange(32)
    assert_same(gradients(tiny_llm, rows, checkpointing=True, dropout=0.5), gradients(tiny_llm, rows, dropout=0.5))


def test_only_the_adapter_changes(tiny_llm):
    before = {name: weights.clone() for name, weights in tiny_llm.model.named_parameters()}
    adapted, _ = train(tiny_llm, training_config(epochs=1))
    base = adapted.model.unload()
    assert all(torch.equal(weights, before[name]) for name, weights in base.named_parameters())


def test_a_loss_that_is_not_finite_stops_the_training(tiny_llm):
    with pytest.raises(FloatingPointError, match="lower finetuning's learning_rate"):
        train(tiny_llm, training_config(learning_rate=1e30, max_gradient_norm=1e30))


def test_an_unknown_target_module_is_refused_with_the_names_there_are(tiny_llm):
    with pytest.raises(ValueError, match=r"names query.*q_proj"):
        new_adapter(tiny_llm.model, adapter_config(target_modules=("query",)), torch.randn(9, 6), seed=0)


@pytest.mark.parametrize(("last_layers", "expected"), [(None, {0, 1}), (1, {1}), (3, {0, 1})])
def test_the_last_layers_alone_are_adapted(tiny_llm, last_layers, expected):
    model = new_adapter(tiny_llm.model, adapter_config(last_layers=last_layers), torch.randn(9, 6), seed=3)
    found = {
        int(name.split(".layers.")[1].split(".")[0]) for name, _ in model.named_parameters() if "reclora_A" in name
    }
    assert found == expected
