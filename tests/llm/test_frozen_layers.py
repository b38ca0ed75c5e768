"""Layers below an adapter, which are computed once for all models that read the same batch."""

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from few_rows import adapter_config, few_rows_training, load_model, random_prompts, with_adapter
from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.llm.attention import FrozenLayers


def counted(model):
    """The model, and how often each of its two layers is called from now on."""
    calls = Counter()
    for number, layer in enumerate(model.model.get_decoder().layers):
        layer.register_forward_pre_hook(lambda *_, number=number: calls.update([number]))
    return model, calls


def scores(model, prompts=None, tokens=2000):
    return model.scores(prompts or random_prompts(), tokens, "")


@pytest.fixture
def sharing(tiny_llm_folder):
    """Gives models on one LLM, loaded anew for each, that remember together."""
    frozen = FrozenLayers()

    def load(**settings):
        model = load_model(tiny_llm_folder)
        model = replace(model, llm=replace(model.llm, frozen=frozen))
        return with_adapter(model, **settings) if settings else model

    return load


def test_models_that_read_the_same_batches_share_the_layers_below_their_adapters(sharing, tiny_llm_folder):
    expected = scores(with_adapter(load_model(tiny_llm_folder), last_layers=1)), scores(load_model(tiny_llm_folder))
    first, calls = counted(sharing(last_layers=1))
    assert (scores(first) == expected[0]).all()
    assert calls == {0: 1, 1: 1}
    for settings, same in (({"last_layers": 1}, expected[0]), ({}, expected[1])):
        other, calls = counted(sharing(**settings))
        assert (scores(other) == same).all()
        assert calls == {1: 1}
    assert len(other.model.get_decoder().layers) == 2


@pytest.mark.parametrize("settings", [{}, {"last_layers": 2}])
def test_what_an_adapter_changes_is_not_shared(sharing, settings):
    for _ in range(2):
        model, calls = counted(sharing(**settings))
        scores(model)
        assert calls == {0: 1, 1: 1}


def test_an_adapter_further_down_begins_where_it_has_to(sharing, tiny_llm_folder):
    scores(sharing(last_layers=1))
    lower, calls = counted(sharing(last_layers=2))
    assert (scores(lower) == scores(with_adapter(load_model(tiny_llm_folder), last_layers=2))).all()
    assert calls[0] == 1


def test_other_batches_and_those_beyond_the_room_are_computed(tiny_llm_folder):
    model, calls = counted(with_adapter(load_model(tiny_llm_folder), last_layers=1))
    scores(model)
    scores(model, random_prompts(seed=1))
    assert calls == {0: 2, 1: 2}
    prompts = random_prompts()
    room = len(prompts.labels) * prompts.lengths.max() * 32 * 4  # hidden states of 32 in float32
    for frozen, lower in ((FrozenLayers(room - 1), 2), (FrozenLayers(room), 1)):
        model, calls = counted(with_adapter(load_model(tiny_llm_folder), last_layers=1))
        model = replace(model, llm=replace(model.llm, frozen=frozen))
        assert (scores(model) == scores(model)).all()
        assert calls == {0: lower, 1: 2}


def test_a_training_after_another_one_ends_with_the_same_weights(sharing, monkeypatch, tiny_llm_folder):
    monkeypatch.setattr("few_rows.adapter_config", partial(adapter_config, last_layers=1))
    monkeypatch.setattr("few_rows.load_model", lambda _: sharing())
    first, _ = few_rows_training(tiny_llm_folder)
    second, _ = few_rows_training(tiny_llm_folder)
    assert not any("layers.0." in name for name in first)
    assert all(torch.equal(second[name], first[name]) for name in first)


def test_random_layers_of_a_training_are_not_remembered(sharing):
    model, calls = counted(sharing(last_layers=1))
    model.model.config.attention_dropout = 0.5
    model.model.train()
    batch = random_prompts().batch(range(3), model.device)
    model.llm_logits(batch)
    model.llm_logits(batch)
    assert calls == {0: 2, 1: 2}
    model.model.eval()
    assert np.isfinite(scores(model)).all()


def test_what_one_catalog_entry_loads_remembers_together(tiny_llm_folder):
    dataset = CausalLMDataset(source=str(tiny_llm_folder), device="cpu")
    assert dataset.load().frozen is dataset.load().frozen
    other = CausalLMDataset(source=str(tiny_llm_folder), device="cpu")
    assert other.load().frozen is not dataset.load().frozen
