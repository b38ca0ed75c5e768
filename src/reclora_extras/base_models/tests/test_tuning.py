"""Tuning of a tiny random LLM."""

import numpy as np
import pytest
import torch

from reclora_extras.base_models.config import TuningConfig
from reclora_extras.base_models.tuning import losses_of_texts, reading_losses, text_losses, tune
from reclora_kedro.llm.batching import pad_right
from steps_of_base_model import TOKENS, tuning

TEXTS = [[5, 9, 5, 9, 5, 9], [7, 8, 7], [4], [9, 5, 9, 5], [6, 6, 6, 6]]
LENGTHS = np.array([len(ids) for ids in TEXTS])


def weights_of(llm):
    return {name: weight.clone() for name, weight in llm.model.state_dict().items()}


def test_the_loss_of_reading_is_that_of_transformers_for_each_text_alone(tiny_llm):
    model = tiny_llm.model.double()
    ids, last = pad_right(TEXTS)
    losses = reading_losses(model(input_ids=ids).logits, ids, last)
    alone = [torch.tensor([text]) for text in TEXTS if len(text) > 1]
    expected = [model(input_ids=text, labels=text).loss for text in alone]
    torch.testing.assert_close(losses[[0, 1, 3, 4]], torch.stack(expected).to(losses), rtol=1e-6, atol=1e-6)
    assert losses[2] == 0
    np.testing.assert_allclose(losses_of_texts(tiny_llm, [*TEXTS, []], 8)[:5], losses.numpy(), rtol=1e-5)


@pytest.mark.parametrize("rank", [None, 2])
def test_what_is_read_perplexes_less_and_the_llm_itself_is_as_it_was(tiny_llm, rank, monkeypatch):
    monkeypatch.setattr(TuningConfig, "batch_size", 2)
    before = weights_of(tiny_llm)
    settings = tuning(epochs=8, lora_rank=rank)
    tuned, account = tune(tiny_llm, LENGTHS, text_losses(TEXTS), settings, TOKENS, seed=0)
    assert account["steps"] == 24
    assert account["last_loss"] < account["first_loss"] - 0.2
    assert losses_of_texts(tuned, TEXTS, TOKENS).sum() < losses_of_texts(tiny_llm, TEXTS, TOKENS).sum() - 1
    assert all(weight.equal(before[name]) for name, weight in weights_of(tiny_llm).items())
    changed = {name for name, weight in weights_of(tuned).items() if not weight.equal(before[name])}
    assert all("proj" in name for name in changed) == (rank is not None)
    assert weights_of(tuned).keys() == before.keys()
    again, _ = tune(tiny_llm, LENGTHS, text_losses(TEXTS), settings, TOKENS, seed=0)
    assert all(weight.equal(weights_of(tuned)[name]) for name, weight in weights_of(again).items())


def test_without_epochs_nothing_is_tuned(tiny_llm):
    assert tune(tiny_llm, LENGTHS, text_losses(TEXTS), tuning(epochs=0), TOKENS, seed=0) == (tiny_llm, {})


def test_batches_within_a_smaller_budget_give_the_same_gradient(tiny_llm):
    tuned = [tune(tiny_llm, LENGTHS, text_losses(TEXTS), tuning(), tokens, seed=0)[0] for tokens in (6, TOKENS)]
    few, many = (weights_of(llm) for llm in tuned)
    assert all(torch.allclose(weight, many[name], atol=1e-4) for name, weight in few.items())


def test_a_loss_that_is_not_finite_is_refused_with_its_step(tiny_llm, monkeypatch):
    monkeypatch.setattr(TuningConfig, "batch_size", 1)
    tiny_llm.model.model.embed_tokens.weight.data[6] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"loss of the base LLM is nan at step 1 of 2: lower the learning_rate"
    ):
        tune(tiny_llm, LENGTHS[[4, 4]], text_losses([TEXTS[4]] * 2), tuning(), TOKENS, seed=0)
