"""Cross-entropy over all items, and over samples of them."""

import pytest
import torch
from torch.nn import functional

from reclora_kedro.retrievers import losses
from reclora_kedro.retrievers.losses import draw_items, full_cross_entropy, sampled_cross_entropy


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
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", at_once)
    loss = full_cross_entropy(*batch)
    torch.testing.assert_close((loss, *torch.autograd.grad(loss * 3, batch[:2])), expected(*batch))


def test_a_sample_of_all_items_gives_the_full_loss(batch):
    states, vectors, targets = batch
    same = targets.unsqueeze(1) == torch.arange(9)
    loss = sampled_cross_entropy(states, vectors[targets], vectors, same, torch.zeros(9))
    torch.testing.assert_close((loss, *torch.autograd.grad(loss * 3, batch[:2])), expected(*batch))


def test_items_are_drawn_as_often_as_is_said():
    torch.manual_seed(0)
    events, counts = torch.tensor([0, 1, 3, 20, 0]), torch.zeros(5)
    said = {}
    for _ in range(2000):
        items, log_inclusion = draw_items(events, 3)
        counts[items] += 1
        said |= dict(zip(items.tolist(), log_inclusion.exp().tolist(), strict=True))
    torch.testing.assert_close(counts / 2000, torch.tensor([said[item] for item in range(5)]), atol=0.03, rtol=0)
