"""MTL-LoRA against a plain float64 reference and PEFT's own LoRA, and what it makes of tasks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from few_rows import adapter_weights, gate_inputs_of, gates_decide, training_config, with_model
from random_llama import random_llama
from reclora_extras.mtl_lora.model import MtlLoraConfig, TaskShares
from reclora_kedro.adapters.methods import load_adapter, new_adapter, user_loras
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import train_adapter

TASKS = 4


def with_random_weights(tasks=TASKS, seed=1, **settings):
    """A random Llama with an adapter none of whose weights is as it began."""
    torch.manual_seed(seed)
    config = MtlLoraConfig(task_type="CAUSAL_LM", gate_dim=tasks, r=3, lora_alpha=6, **settings)
    adapted = get_peft_model(random_llama(2), config).eval()
    for name, weights in adapted.named_parameters():
        if "mtl_lora" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return adapted


def inputs(batch=5, tokens=7):
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 64, (batch, tokens), generator=generator)
    return ids, torch.eye(TASKS)[[0, 2, 3, 0, 1][:batch]]


def logits(model, ids, tasks=None):
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), gate_inputs=tasks).logits


def test_a_layer_is_the_formula_of_the_paper():
    model, (_, tasks) = with_random_weights(), inputs()
    layer = model.adapted_layers("default")[1]
    A, B, transforms, scores = (getattr(layer, name)["default"].double() for name in layer.adapter_layer_names)
    x = torch.randn(5, 7, 32)
    with model.gate_context(tasks), torch.no_grad():
        computed = layer(x)
    for sample, task, output in zip(x.double(), tasks.argmax(-1), computed.double(), strict=True):
        exponents = (scores[task] / 0.1).exp()
        delta = sum(exponents[j] / exponents.sum() * B[:, j] @ transforms[task] @ A for j in range(3))
        expected = sample @ (layer.base_layer.weight.double() + 6 / 3 * delta).T
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)


def test_one_task_and_one_up_projection_are_pefts_own_lora():
    ours = with_random_weights(tasks=1, num_up_projections=1)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])
    theirs = get_peft_model(random_llama(2), config).eval()
    own = iter(ours.adapted_layers("default"))
    for module in theirs.modules():
        if "default" in getattr(module, "lora_A", {}):
            layer = next(own)
            transform = layer.mtl_lora_transforms["default"][0]
            module.lora_A["default"].weight.data = (transform @ layer.mtl_lora_A["default"]).detach()
            module.lora_B["default"].weight.data = layer.mtl_lora_B["default"][:, 0].detach().clone()
    ids, _ = inputs()
    expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(logits(ours, ids), expected, atol=1e-6, rtol=1e-5)


def test_separate_tasks_are_a_lora_each():
    """A row of a task is answered, and teaches, as if the LoRA of its task were alone."""
    ids, tasks = inputs()
    all_tasks = with_random_weights(separate=True)
    alone = with_random_weights(tasks=1, num_up_projections=1)
    logits_of_all = all_tasks(input_ids=ids, gate_inputs=tasks).logits
    logits_of_all.square().sum().backward()
    for task in tasks.argmax(-1).unique().tolist():
        for one, own in zip(alone.adapted_layers("default"), all_tasks.adapted_layers("default"), strict=True):
            one.mtl_lora_transforms["default"].data[0] = torch.eye(3)
            one.mtl_lora_A["default"].data = own.mtl_lora_A["default"].data[task].clone()
            one.mtl_lora_B["default"].data = own.mtl_lora_B["default"].data[:, [task]].clone()
        alone.zero_grad()
        rows = tasks[:, task] == 1
        expected = alone(input_ids=ids[rows]).logits
        torch.testing.assert_close(logits_of_all[rows], expected, atol=1e-5, rtol=1e-4)
        expected.square().sum().backward()
        for one, own in zip(alone.adapted_layers("default"), all_tasks.adapted_layers("default"), strict=True):
            gradient = own.mtl_lora_A["default"].grad[task]
            torch.testing.assert_close(gradient, one.mtl_lora_A["default"].grad, atol=1e-3, rtol=1e-3)


def test_a_fresh_adapter_changes_nothing_and_gradients_reach_all_of_a_used_one():
    ids, tasks = inputs()
    fresh = get_peft_model(random_llama(2), MtlLoraConfig(task_type="CAUSAL_LM", gate_dim=TASKS)).eval()
    assert torch.equal(logits(fresh, ids, tasks), random_llama(2)(input_ids=ids).logits)
    model = with_random_weights().train()
    model(input_ids=ids, gate_inputs=tasks).logits.square().mean().backward()
    for name, weights in model.named_parameters():
        assert weights.requires_grad == ("mtl_lora_" in name), name
        assert not weights.requires_grad or weights.grad.abs().sum() > 0, name


def test_rows_of_a_batch_do_not_influence_each_other():
    model, (ids, tasks), order = with_random_weights(), inputs(), torch.tensor([2, 0, 3, 1, 4])
    together = logits(model, ids, tasks)
    torch.testing.assert_close(logits(model, ids[order], tasks[order]), together[order], atol=1e-5, rtol=1e-5)
    changed = logits(model, ids, tasks.roll(1, 0))
    assert not torch.allclose(changed[0], together[0])  # another task
    with pytest.raises(ValueError, match="none were given"):
        logits(model, ids)


def test_what_was_never_trained_is_what_the_few_shot_rows_are_on_average():
    shares = TaskShares(TASKS)
    shares.fit(torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]))
    prior = [1.5 / 4, 2.5 / 4, 0, 0]
    assert shares.prior.tolist() == prior
    asked = torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    assert shares(asked)[0].tolist() == [[0, 1, 0, 0], [0.5, 0.5, 0, 0], prior, prior, [1, 0, 0, 0]]


def test_a_saved_adapter_knows_its_tasks(tmp_path):
    model, (ids, tasks) = with_random_weights(), inputs()
    model.fit_gates(tasks[:3])
    expected = logits(model, ids, tasks)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(random_llama(2), tmp_path).eval()
    assert torch.equal(logits(loaded, ids, tasks), expected)
    assert not any(weights.requires_grad for weights in loaded.parameters())


def test_a_variant_learns_tasks_and_goes_on_after_an_interruption(tiny_model, tmp_path):
    settings = {"method": "mtl_lora", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    variant = {"history": "recent", "adapter": settings, "training": training_config(epochs=6).model_dump()}
    with pytest.raises(ValueError, match=r"gate_input is 'target'.*'mtl_lora' read field:<name>"):
        VariantConfig(**variant, gate_input="target")
    config = VariantConfig(**variant, gate_input="field:genres")
    few_shot, validation = tasks_decide(128, 0), tasks_decide(64, 1)

    def train(checkpoints):
        adapted = new_adapter(tiny_model.model, config.adapter, few_shot.gate_inputs, seed=0)
        model = with_model(tiny_model, adapted)
        log = train_adapter(model, Clicks(few_shot), validation, config.training, checkpoints)
        scores = model.scores(validation, 400, "")
        adapted.save_pretrained(tmp_path / "adapter")
        weights = adapter_weights(adapted)
        adapted.unload()
        return weights, log, scores

    store = CheckpointStore(tmp_path / "checkpoints", "this one")
    weights, log, scores = train(store)
    assert log["validation_auc"].max() > 0.9
    again, _, _ = train(store)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    loaded = load_adapter(tiny_model.model, str(tmp_path / "adapter"), "field:genres", 2)
    model = with_model(tiny_model, loaded)
    assert model.has_gates
    np.testing.assert_array_equal(model.scores(validation, 400, ""), scores)
    weights = model.method.gate_weights(loaded, validation.gate_inputs.values)
    assert weights.shape == (64, 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(64))
    with pytest.raises(ValueError, match="method 'mtl_lora' are not LoRAs"):
        user_loras(loaded, torch.zeros(1, 2), ["ann"])


def tasks_decide(count, seed):
    """Prompts of two tasks, whose last token says the label in one, and its opposite in the other."""
    prompts = gates_decide(count, gate_dim=2, seed=seed)
    tasks = np.random.default_rng(seed).integers(0, 2, count)
    ends = (20 + (prompts.labels ^ tasks)).tolist()
    token_ids = [[*ids, end] for ids, end in zip(prompts.token_ids, ends, strict=True)]
    values = torch.eye(2)[torch.from_numpy(tasks)]
    return replace(prompts, token_ids=token_ids, gate_inputs=gate_inputs_of(values, "field:genres"))
