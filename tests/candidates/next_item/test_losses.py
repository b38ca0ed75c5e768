"""Cross-entropy over all items, and over samples of them."""

from itertools import product

import pytest
import torch
from torch.nn import functional

from reclora_kedro.candidates.next_item import training
from reclora_kedro.candidates.next_item.training import draw_items, full_cross_entropy, sampled_cross_entropy


@pytest.fixture
def batch():
    torch.manual_seed(0)
    states, vectors = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    return states, vectors, torch.randint(9, (7,))


def expected(states, vectors, targets):
    loss = functional.cross_entropy(states @ vectors.T, targets, reduction="sum")
    return loss, *torch.autograd.grad(loss * 3, (states, vectors))


@pytest.mark.parametrize("at_once", [1, 20, 1000])
def test_the_full_loss_and_its_gradients_are_those_of_pytorch(batch, at_once, monkeypatch):
    monkeypatch.setattr(training, "LOGITS_AT_ONCE", at_once)
    loss = full_cross_entropy(*batch)
    torch.testing.assert_close((loss, *torch.autograd.grad(loss * 3, batch[:2])), expected(*batch))


def test_a_sample_of_all_items_gives_the_full_loss(batch):
    states, vectors, targets = batch
    same = targets.unsqueeze(1) == torch.arange(9)
    loss = sampled_cross_entropy(states, vectors[targets], vectors, same, torch.zeros(9))
    torch.testing.assert_close((loss, *torch.autograd.grad(loss * 3, batch[:2])), expected(*batch))


def test_items_of_unequal_probability_count_by_one_over_it(batch):
    """The mean, over all that two draws may give, of the sum of exponentials in the loss is that over all items."""
    states, vectors, _ = (tensor.detach().double() for tensor in batch)
    state, vectors = states[:1], vectors[:4]
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    own = (state @ vectors[0]).item()
    mean = 0.0
    for draw in product(range(4), repeat=2):
        items = torch.tensor(draw).unique()
        log_inclusion = torch.log(1 - (1 - probabilities[items]) ** 2)
        loss = sampled_cross_entropy(state, vectors[:1], vectors[items], (items == 0).unsqueeze(0), log_inclusion)
        mean += (probabilities[list(draw)].prod() * torch.exp(loss + own)).item()
    assert mean == pytest.approx(torch.exp(state @ vectors.T).sum().item())


def test_items_are_drawn_as_often_as_is_said():
    torch.manual_seed(0)
    events, counts = torch.tensor([0, 1, 3, 20, 0]), torch.zeros(5)
    said = {}
    for _ in range(2000):
        items, log_inclusion = draw_items(events, 3)
        counts[items] += 1
        said |= dict(zip(items.tolist(), log_inclusion.exp().tolist(), strict=True))
    torch.testing.assert_close(counts / 2000, torch.tensor([said[item] for item in range(5)]), atol=0.03, rtol=0)
