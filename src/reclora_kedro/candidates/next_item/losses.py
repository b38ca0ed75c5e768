"""Cross-entropy of the next item: over the whole catalogue, or over a sample of it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LOGITS_AT_ONCE = 2**21  # 8 MiB: the passes over them stay in a processor's cache


def full_cross_entropy(states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the softmax over all items, (items, dim), summed over states, (n, dim).

    The gradient is computed with the loss, a block of rows at a time, so that no logits are kept.

    Examples:
        >>> states, vectors = torch.eye(3), torch.eye(3)
        >>> full_cross_entropy(states, vectors, torch.tensor([0, 1, 0]))
        tensor(2.6543)
    """
    return _FullCrossEntropy.apply(states, vectors, targets)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
        loss = states.new_zeros(())
        states_gradient, vectors_gradient = torch.empty_like(states), torch.zeros_like(vectors)
        rows = min(max(1, len(states)), max(1, LOGITS_AT_ONCE // len(vectors)))
        scratch = states.new_empty(rows, len(vectors))  # a fresh block of memory each time takes as long as the product
        for first in range(0, len(states), rows):
            part, target = states[first : first + rows], targets[first : first + rows].unsqueeze(-1)
            logits = torch.mm(part, vectors.T, out=scratch[: len(part)])
            logits -= logits.amax(dim=1, keepdim=True)
            target_logits = logits.gather(1, target)
            total = logits.exp_().sum(dim=1, keepdim=True)
            loss += (total.log() - target_logits).sum()
            gradient = logits.div_(total).scatter_add_(1, target, torch.full_like(target_logits, -1.0))
            torch.mm(gradient, vectors, out=states_gradient[first : first + rows])
            vectors_gradient.addmm_(gradient.T, part)
        ctx.save_for_backward(states_gradient, vectors_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states_gradient, vectors_gradient = ctx.saved_tensors
        return states_gradient * gradient, vectors_gradient * gradient, None


def sampled_cross_entropy(states: Tensor, own: Tensor, sampled: Tensor, same: Tensor, log_inclusion: Tensor) -> Tensor:
    """Return the sum over n states of the cross-entropy of each target against m sampled items, corrected for sampling.

    Each sampled item's exponential is divided by its inclusion probability, so that their sum is an unbiased estimate
    of the sum over the catalogue (Bengio and Senécal 2008).

    Args:
        states: shape (n, dim).
        own: vectors of the targets, shape (n, dim).
        sampled: vectors of distinct sampled items, shape (m, dim).
        same: whether a sampled item is the state's target, which must not count twice, shape (n, m).
        log_inclusion: log of each sampled item's inclusion probability, shape (m,).
    """
    logits = (states @ sampled.T - log_inclusion).masked_fill(same, -torch.inf)
    logits = torch.cat([(states * own).sum(dim=1, keepdim=True), logits], dim=1)
    return functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="sum"
    )


def draw_items(events: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Draw items with replacement, half of them uniformly, half in proportion to their training events, shape (items,).

    Returns:
        The distinct items in ascending order, and the logs of their inclusion probabilities.
    """
    shares = 0.5 / len(events) + 0.5 * events / events.sum()
    items = torch.multinomial(shares, draws, replacement=True).unique()
    return items, torch.log(-torch.expm1(draws * torch.log1p(-shares[items].double()))).float()
