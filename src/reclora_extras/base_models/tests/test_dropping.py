"""Dropping of layers of tiny random LLMs, beside references in float64."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from random_llama import random_llama
from reclora_extras.base_models.config import DropLayersConfig
from reclora_extras.base_models.dropping import ARCHITECTURES, drop_layers, layer_importances
from reclora_extras.base_models.material import Material
from reclora_extras.base_models.steps.drop_layers import DropLayers
from steps_of_base_model import ANSWERS, config, random_llm, some_prompts, tuning

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


def importances(llm, prompts, own):
    return layer_importances(llm, Material([], prompts, prompts, ANSWERS), config(drop_layers=own))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_architecture_loses_the_layer_that_matters_least(tiny_llm, kind, spare):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "vocab_size": 64}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval().requires_grad_(False)
    spare(0, 0)
    settings = DropLayersConfig(layers=1, importance="taylor")
    dropped = drop_layers(replace(tiny_llm, model=model), np.array([1, 1, 0.5, 1, 1]), settings)
    del model.model.layers[2]
    torch.testing.assert_close(logits(dropped.model), logits(model), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("choice", ["loss", "taylor", "random"])
def test_nothing_is_dropped_at_zero(tiny_llm, choice):
    settings = DropLayersConfig(layers=0, importance=choice)
    dropped = drop_layers(tiny_llm, importances(tiny_llm, some_prompts(), settings), settings)
    assert dropped.model.config.to_diff_dict() == tiny_llm.model.config.to_diff_dict()
    assert torch.equal(logits(dropped.model), logits(tiny_llm.model))


def without_layers(model, gone):
    """A copy without some layers."""
    other = copy.deepcopy(model)
    other.model.layers = torch.nn.ModuleList(layer for i, layer in enumerate(other.model.layers) if i not in gone)
    return other


def test_the_least_important_layers_go_and_none_that_is_spared(tiny_llm, spare):
    llm, prompts = random_llm(tiny_llm), some_prompts(6)
    spare(2, 1)
    settings = DropLayersConfig(layers=2, importance="taylor")
    dropped = drop_layers(llm, importances(llm, prompts, settings), settings)
    taylor = {
        name: (llm.model.get_parameter(name) * g).abs().sum() for name, g in gradients(llm.model, prompts).items()
    }
    of_layers = [sum(value for name, value in taylor.items() if f".{layer}." in name) for layer in range(6)]
    gone = sorted(range(2, 5), key=of_layers.__getitem__)[:2]
    torch.testing.assert_close(logits(dropped.model), logits(without_layers(llm.model, gone)), rtol=1e-11, atol=1e-12)
    assert DropLayers.remaining_layers(llm.model, 6, config(drop_layers=settings)) == 4
    with pytest.raises(ValueError, match=r"layers is 4, but of 6 layers .* only 3 may be dropped, because the first 2"):
        DropLayers.remaining_layers(llm.model, 6, config(drop_layers=settings.model_copy(update={"layers": 4})))


def test_the_loss_of_a_layer_is_that_of_the_llm_without_it(tiny_llm, spare):
    llm, prompts = random_llm(tiny_llm), some_prompts(6)
    spare(2, 1)
    settings = DropLayersConfig(layers=2, importance="loss")
    of_layers = importances(llm, prompts, settings)
    losses = [loss(without_layers(llm.model, [layer]), prompts).item() if 2 <= layer < 5 else 0 for layer in range(6)]
    np.testing.assert_allclose(of_layers, losses, rtol=1e-6)  # logits are float32 there


def test_an_llm_without_layers_recovers_and_is_an_ordinary_folder_of_transformers(tiny_llm, tmp_path):
    own = DropLayersConfig(layers=1, importance="random")
    settings = config(recovery=tuning(epochs=3, lora_rank=2), drop_layers=own)
    llm, prompts = replace(tiny_llm, model=random_llama(3)), some_prompts()
    dropped, account = DropLayers.take(llm, Material([], prompts, prompts, ANSWERS), settings)
    assert account["num_hidden_layers"] == 2
    assert account["last_loss"] < account["first_loss"] - 0.1
    dropped.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 2
    torch.testing.assert_close(logits(loaded), logits(dropped.model))


def test_an_architecture_of_other_layers_is_refused(tiny_llm):
    tiny_llm.model.config.model_type = "gpt2"
    with pytest.raises(ValueError, match=r"which is a gpt2; expected one of llama, mistral, .* or other steps"):
        DropLayers.remaining_layers(tiny_llm.model, 6, config())
