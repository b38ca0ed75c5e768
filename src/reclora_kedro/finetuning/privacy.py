"""Gradients of a training step, also with user-level privacy (DP-SGD): sampled users, clipped gradients, noise."""

import logging
import secrets
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reclora_kedro.distributed.group import ALONE, Group
from reclora_kedro.finetuning.config import PrivacyConfig
from reclora_kedro.finetuning.examples import Examples
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget

logger = logging.getLogger(__name__)


PRIVACY_SPENT = ("epsilon", "delta")  # columns of the log of a training with privacy


@dataclass(frozen=True)
class PrivateRounds:
    """The rounds of a private training: user-level DP-SGD (McMahan et al. 2018, arXiv 1710.06963).

    DP-LoRA (Liu et al. 2023, arXiv 2312.17493) trains adapters so, at clients of a server; here there is one machine.

    In each, every user takes part with the same probability. Users' gradients, of the mean loss over their examples,
    are clipped to a norm C; the noise on the sum has the standard deviation noise_multiplier · C.
    """

    steps: list[np.ndarray]  # numbers of the examples of the users of each round
    epsilons: np.ndarray  # epsilon spent after each round, at `config.delta`, shape (rounds,)
    users: np.ndarray  # user of each example, shape (examples,)
    users_each: int  # expected number of users per round
    config: PrivacyConfig
    random: torch.Generator  # source of the noise, the same in every process of a group

    def set_gradients(
        self,
        model: AnswerModel,
        examples: Examples,
        chosen: np.ndarray,
        weights: list[Tensor],
        budget: TokenBudget,
        group: Group,
    ) -> Tensor:
        """Set the noisy mean of the clipped gradients of a round's users, see `set_gradients` of this module."""
        losses = torch.zeros(len(chosen), device=weights[0].device)
        sums = [torch.zeros_like(weight) for weight in weights]
        for user in np.unique(self.users[chosen])[group.rank :: group.size]:
            own = np.flatnonzero(self.users[chosen] == user)
            losses[torch.from_numpy(own)] = set_gradients(model, examples, chosen[own], weights, budget)
            torch.nn.utils.clip_grad_norm_(weights, self.config.clipping_norm)
            for total, weight in zip(sums, weights, strict=True):
                total += weight.grad
        for total, weight in zip(sums, weights, strict=True):
            weight.grad = total
        group.sum_gradients(weights)
        for weight in weights:
            noise = torch.randn(weight.shape, generator=self.random).to(weight)
            weight.grad += self.config.noise_multiplier * self.config.clipping_norm * noise
            weight.grad /= self.users_each
        return group.sum(losses)

    def spent(self, step: int) -> dict[str, float | None]:
        """Return epsilon and delta after a number of rounds; None for an infinite epsilon."""
        epsilon = float(self.epsilons[step - 1])
        return {"epsilon": epsilon if np.isfinite(epsilon) else None, "delta": self.config.delta}


def private_rounds(users: np.ndarray | None, epochs: int, config: PrivacyConfig, group: Group) -> PrivateRounds:
    """Draw the rounds of a private training: for `epochs` expected times per user, or as many as `max_epsilon` allows.

    Users (of each example, shape (examples,)) and noise are drawn from the operating system's randomness, never from a
    seed, by which noise could be subtracted; the processes of a group get the same ones. ValueError is raised for a
    `delta` that is not below 1 / users, or if the first round alone would exceed `max_epsilon`.
    """
    assert users is not None  # objectives that train with privacy name them
    everyone = np.unique(users)
    if config.delta * len(everyone) >= 1:
        raise ValueError(
            f"training.privacy.delta is {config.delta:g}, but the few-shot rows are of {len(everyone)} users: set it "
            f"below 1 / {len(everyone)}, the chance that more is revealed about a user than epsilon allows."
        )
    users_each = min(config.users_per_round, len(everyone))
    rate = users_each / len(everyone)
    rounds = max(1, round(epochs / rate))
    epsilons = epsilons_after(rounds, rate, config)
    within = rounds if config.max_epsilon is None else int(np.searchsorted(epsilons, config.max_epsilon, "right"))
    if not within:
        raise ValueError(
            f"The first round with {users_each} of {len(everyone)} users would spend an epsilon of {epsilons[0]:.3g} "
            f"at delta {config.delta:g}, but training.privacy.max_epsilon is {config.max_epsilon:g}: raise "
            f"noise_multiplier, which is {config.noise_multiplier:g}, or lower users_per_round."
        )
    if within < rounds and group.rank == 0:
        logger.warning(
            "Training ends after %d of %d rounds, before epsilon exceeds training.privacy.max_epsilon, %g. Raise "
            "noise_multiplier, which is %g, or lower users_per_round, for more rounds.",
            *(within, rounds, config.max_epsilon, config.noise_multiplier),
        )
    secret = group.sum(torch.tensor(secrets.randbits(62) if group.rank == 0 else 0))
    random = np.random.default_rng(int(secret))
    taking_part = (everyone[random.random(len(everyone)) < rate] for _ in range(within))
    steps = [np.flatnonzero(np.isin(users, names)) for names in taking_part]
    noise = torch.Generator().manual_seed(int(random.integers(2**62)))
    return PrivateRounds(steps, epsilons[:within], users, users_each, config, noise)


def epsilons_after(rounds: int, rate: float, config: PrivacyConfig) -> np.ndarray:
    """Return epsilon at `delta` after each round by Opacus's Rényi accountant (Mironov 2017), shape (rounds,).

    Each user takes part in a round with the probability `rate`.
    """
    if not config.noise_multiplier:
        return np.full(rounds, np.inf)
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    orders = RDPAccountant.DEFAULT_ALPHAS
    divergence = compute_rdp(q=rate, noise_multiplier=config.noise_multiplier, steps=1, orders=orders)
    counts = range(1, rounds + 1)
    return np.array([get_privacy_spent(orders=orders, rdp=divergence * n, delta=config.delta)[0] for n in counts])


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
