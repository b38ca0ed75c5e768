"""Gradients of a training step on the weights of an adapter."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from reclora_kedro.distributed.group import ALONE, Group
from reclora_kedro.finetuning.examples import Examples
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget


def set_gradients(
    model: AnswerModel,
    examples: Examples,
    chosen: np.ndarray,
    weights: list[Tensor],
    budget: TokenBudget,
    group: Group = ALONE,
) -> Tensor:
    """Set the gradient of the mean loss over ``chosen`` examples, by all processes; return losses, shape (chosen,).

    The examples are split into forward passes within the token budget. The gradient of a pass is added once it is
    complete, so that a pass that exceeds the GPU's memory contributes nothing.
    """
    model.model.train()
    losses = torch.zeros(len(chosen), device=model.device)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)

    def forward_and_backward(part: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:
        batch = examples.batch(chosen[part], model.device)
        # Gradient checkpointing computes layers again in the backward pass, which needs the gates too.
        with model.gate_context(batch.gate_inputs):
            each = examples.losses(model, replace(batch, gate_inputs=None), chosen[part])
            return each.detach(), torch.autograd.grad(each.sum() / len(chosen), weights, materialize_grads=True)

    share = np.arange(group.rank, len(chosen), group.size)
    for part, (each, gradients) in budget.run(share, examples.lengths[chosen], forward_and_backward):
        losses[torch.from_numpy(part)] = each
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad += gradient
    group.sum_gradients(weights)
    return group.sum(losses)
