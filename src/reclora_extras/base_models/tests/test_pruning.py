"""Pruning of tiny random LLMs, beside references in float64."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from reclora_extras.base_models.config import DropLayersConfig, PruneConfig
from reclora_extras.base_models.material import Material
from reclora_extras.base_models.preparing import require_steps
from reclora_extras.base_models.pruning import (
    ARCHITECTURES,
    drop_layers,
    importances,
    layer_importances,
    prune,
    require_droppable,
    require_prunable,
)
from reclora_extras.base_models.steps.prune import Prune
from steps_of_base_model import ANSWERS, TOKENS, config, random_llm, some_prompts, tuning

IDS = torch.arange(3, 60)[None]


def logits(model):
    return model(input_ids=IDS, use_cache=False).logits


def loss(model, prompts):
    """The mean loss of reading and answering each prompt, prompt by prompt and without padding."""
    total = torch.zeros((), dtype=torch.float64)
    for ids, label in zip(prompts.token_ids, prompts.labels, strict=True):
        scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
        read = functional.cross_entropy(scores[:-1], torch.tensor(ids[1:]))
        answered = functional.cross_entropy(scores[-1, [ANSWERS.negative, ANSWERS.positive]], torch.tensor(int(label)))
        total = total + (read + answered) / len(prompts.labels)
    return total


def gradients(model, prompts):
    """Of that loss."""
    model = copy.deepcopy(model).requires_grad_(True)
    loss(model, prompts).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def least_important(model, prompts):
    """By layer, of two key-value heads of width 8 with two query heads each and of 48 channels: those that go."""
    gradient, weights = gradients(model, prompts), dict(model.named_parameters())
    gone = []
    for layer in range(len(model.model.layers)):
        taylor = {
            name.split(f"layers.{layer}.")[1].split(".")[1]: (weights[name] * gradient[name]).abs()
            for name in weights
            if f"layers.{layer}." in name and "proj" in name
        }
        heads = [
            taylor["q_proj"][16 * head : 16 * head + 16].sum()
            + taylor["k_proj"][8 * head : 8 * head + 8].sum()
            + taylor["v_proj"][8 * head : 8 * head + 8].sum()
            + taylor["o_proj"][:, 16 * head : 16 * head + 16].sum()
            for head in range(2)
        ]
        channels = [
            taylor["gate_proj"][i].sum() + taylor["up_proj"][i].sum() + taylor["down_proj"][:, i].sum()
            for i in range(48)
        ]
        gone.append((int(heads[1] < heads[0]), sorted(range(48), key=channels.__getitem__)[:24]))
    return gone


def test_a_pruned_llm_is_the_full_one_with_its_least_important_groups_at_zero(tiny_llm):
    llm, prompts = random_llm(tiny_llm, layers=2), some_prompts(6)
    settings = PruneConfig(ratio=0.5, importance="taylor")
    pruned, account = prune(llm, importances(llm, prompts, ANSWERS, settings, TOKENS, seed=0), settings)
    zeroed = copy.deepcopy(llm.model)
    for layer, (head, channels) in zip(zeroed.model.layers, least_important(llm.model, prompts), strict=True):
        layer.self_attn.o_proj.weight[:, 16 * head : 16 * head + 16] = 0
        layer.mlp.down_proj.weight[:, channels] = 0
    torch.testing.assert_close(logits(pruned.model), logits(zeroed), rtol=1e-11, atol=1e-12)
    assert account == {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    assert (logits(pruned.model) - logits(llm.model)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_architecture_loses_the_groups_and_layers_that_matter_least(tiny_llm, kind, spare):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "vocab_size": 64}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval().requires_grad_(False)
    weights = {name: torch.ones(weight.shape) for name, weight in model.named_parameters()}
    zeroed = copy.deepcopy(model)
    for layer in range(5):
        path = f"model.layers.{layer}"
        output, down = weights[f"{path}.self_attn.o_proj.weight"], weights[f"{path}.mlp.down_proj.weight"]
        output[:, : output.shape[1] // 2] = 0
        down[:, 1::2] = 0
        for name, importance_of in ((f"{path}.self_attn.o_proj", output), (f"{path}.mlp.down_proj", down)):
            zeroed.get_submodule(name).weight *= importance_of
    llm = replace(tiny_llm, model=model)
    pruned, _ = prune(llm, weights, PruneConfig(ratio=0.5, importance="taylor"))
    torch.testing.assert_close(logits(pruned.model), logits(zeroed), rtol=1e-11, atol=1e-12)
    spare(0, 0)
    settings = DropLayersConfig(layers=1, importance="taylor")
    dropped, _ = drop_layers(llm, np.array([1, 1, 0.5, 1, 1]), settings)
    del model.model.layers[2]
    torch.testing.assert_close(logits(dropped.model), logits(model), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("choice", ["taylor", "random"])
def test_nothing_is_pruned_or_dropped_at_zero(tiny_llm, choice):
    heads = PruneConfig(ratio=0, importance=choice)
    layers = DropLayersConfig(layers=0, importance=choice)
    weights = importances(tiny_llm, some_prompts(), ANSWERS, heads, TOKENS, seed=0)
    of_layers = layer_importances(tiny_llm, some_prompts(), ANSWERS, layers, TOKENS, seed=0)
    for pruned in (prune(tiny_llm, weights, heads)[0], drop_layers(tiny_llm, of_layers, layers)[0]):
        assert pruned.model.config.to_diff_dict() == tiny_llm.model.config.to_diff_dict()
        assert torch.equal(logits(pruned.model), logits(tiny_llm.model))


def without_layers(model, gone):
    """A copy without some layers."""
    other = copy.deepcopy(model)
    other.model.layers = torch.nn.ModuleList(layer for i, layer in enumerate(other.model.layers) if i not in gone)
    return other


def test_the_least_important_layers_go_and_none_that_is_spared(tiny_llm, spare):
    llm, prompts = random_llm(tiny_llm), some_prompts(6)
    spare(2, 1)
    settings = DropLayersConfig(layers=2, importance="taylor")
    dropped, account = drop_layers(llm, layer_importances(llm, prompts, ANSWERS, settings, TOKENS, seed=0), settings)
    taylor = {
        name: (llm.model.get_parameter(name) * g).abs().sum() for name, g in gradients(llm.model, prompts).items()
    }
    of_layers = [sum(value for name, value in taylor.items() if f".{layer}." in name) for layer in range(6)]
    gone = sorted(range(2, 5), key=of_layers.__getitem__)[:2]
    torch.testing.assert_close(logits(dropped.model), logits(without_layers(llm.model, gone)), rtol=1e-11, atol=1e-12)
    assert account == {"num_hidden_layers": 4}
    with pytest.raises(ValueError, match=r"layers is 4, but of 6 layers .* only 3 may be dropped, because the first 2"):
        require_droppable(6, DropLayersConfig(layers=4, importance="taylor"))


def test_the_loss_of_a_layer_is_that_of_the_llm_without_it(tiny_llm, spare):
    llm, prompts = random_llm(tiny_llm), some_prompts(6)
    spare(2, 1)
    settings = DropLayersConfig(layers=2, importance="loss")
    of_layers = layer_importances(llm, prompts, ANSWERS, settings, TOKENS, seed=0)
    losses = [loss(without_layers(llm.model, [layer]), prompts).item() if 2 <= layer < 5 else 0 for layer in range(6)]
    np.testing.assert_allclose(of_layers, losses, rtol=1e-6)  # logits are float32 there


def test_steps_are_refused_at_once_where_those_before_leave_too_few_layers(tiny_llm, spare):
    llm = random_llm(tiny_llm)  # of six layers: each dropping takes two, and spares one at either end
    require_steps(llm, config(steps=["drop_layers", "prune", "drop_layers"]))
    with pytest.raises(ValueError, match=r"drop_layers\.layers is 2, but of 2 layers .* only 0 may be dropped"):
        require_steps(llm, config(steps=["drop_layers", "prune"] * 2 + ["drop_layers"]))


def test_a_pruned_llm_recovers_and_is_an_ordinary_folder_of_transformers(tiny_llm, tmp_path):
    recovery = tuning(epochs=3, lora_rank=2)
    settings = config(recovery=recovery)
    prompts = some_prompts()
    pruned, account = Prune.take(tiny_llm, Material([], prompts, prompts, ANSWERS), settings)
    assert account["last_loss"] < account["first_loss"] - 0.1
    pruned.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.num_key_value_heads == 1
    torch.testing.assert_close(logits(loaded), logits(pruned.model))


def test_an_architecture_of_other_layers_is_refused(tiny_llm):
    tiny_llm.model.config.model_type = "gpt2"
    with pytest.raises(ValueError, match=r"which is a gpt2; expected one of llama, mistral, .* or other steps"):
        require_prunable(tiny_llm.model)
