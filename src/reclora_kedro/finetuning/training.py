"""Training of an adapter on the few-shot prompts; the base LLM and the lens stay frozen."""

import logging
import math
import time
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor
from torch.nn import functional

from kedro_provenance.parameters import Block, Resource
from reclora_kedro.devices import seeded
from reclora_kedro.distributed.checkpoints import (
    Checkpoint,
    CheckpointStore,
    random_states,
    restore_random_states,
    restore_training,
    training_tensors,
)
from reclora_kedro.distributed.group import Group
from reclora_kedro.evaluation.metrics import validation_auc
from reclora_kedro.finetuning.objectives import Examples, ObjectiveConfig
from reclora_kedro.finetuning.privacy import PrivacyConfig, private_rounds
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget, shuffled_batches
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.parameters import Count, LearningRate, NonNegative, Positive, Seed, Share
from reclora_kedro.progress import Progress

logger = logging.getLogger(__name__)

LOG_SCHEMA: dict[str, Any] = {  # before what the adapter's method measures, and seconds
    "rows": pl.Int64,
    "train_loss": pl.Float64,
    "learning_rate": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_auc": pl.Float64,
}


class TrainingConfig(Block):
    """How an adapter is trained."""

    epochs: Count
    batch_size: Count
    learning_rate: LearningRate
    schedule: Literal["linear", "cosine"]
    warmup_ratio: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    swa_ratio: NonNegative = Field(le=1)
    rows_per_validation: Count
    patience: Count | None
    rows_per_checkpoint: Resource[Count]
    tokens_per_batch: Resource[Count]
    gradient_checkpointing: Resource[bool]
    processes: Resource[Count]
    objective: ObjectiveConfig
    privacy: PrivacyConfig
    seed: Seed

    @property
    def is_private(self) -> bool:
        """Whether the adapter learns from users' gradients in noise."""
        return self.privacy.kind != "none"

    @model_validator(mode="after")
    def _check_privacy(self) -> Self:
        if self.is_private and self.patience is not None:
            raise ValueError(
                f"patience is {self.patience}, but with privacy no validation may end the training, as validation rows "
                "are of the same users: set patience to null, or privacy.kind to none"
            )
        if self.is_private and self.objective.kind == "self_generated":
            raise ValueError(
                "objective.kind is self_generated, whose rounds would each spend the whole of privacy.max_epsilon: set "
                "it to preference or click, or privacy.kind to none"
            )
        return self


class TrainingRun:
    """All that changes while an adapter is trained, and so all that a checkpoint holds beside random states.

    Args:
        model: a PEFT model with a trainable adapter.
        config: training settings.
        steps: optimiser steps of the whole run.
    """

    def __init__(self, model: Any, config: TrainingConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        self.weights = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.averages: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.step = self.rows = self.validations_since_best = 0
        self.best_auc = -1.0
        self.log: list[dict[str, float | None]] = []

    @property
    def ended(self) -> bool:
        """Whether every step is done, or the validations got no better for long enough."""
        patience = self.config.patience
        return self.step == self.steps or (patience is not None and self.validations_since_best >= patience)

    def due(self, every: int, rows: int) -> bool:
        """Whether something that is done ``every`` so many rows is due after the last step, which took ``rows``."""
        return self.ended or self.rows // every > (self.rows - rows) // every

    def take_step(self, rows: int) -> float:
        """One step of AdamW along the gradients of some rows, and of the average; return the learning rate."""
        rate = self.config.learning_rate * lr_factor(self.step, self.steps, self.config)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self.rows += rows
        first_averaged = self.steps - round(self.config.swa_ratio * self.steps) + 1
        if self.step == first_averaged:
            self.averages = copy_of(self.weights)
        elif self.step > first_averaged:
            for name, weights in self.weights.items():
                self.averages[name].lerp_(weights.detach(), 1 / (self.step - first_averaged + 1))
        return rate

    def keep_if_best(self, auc: float) -> None:
        """Keep the weights as they are if they are better than any validated before; private ones always.

        Validation rows are of the same users: a choice by them would tell of these without any noise.
        """
        self.validations_since_best += 1
        if auc > self.best_auc or self.config.is_private:
            self.best_auc, self.best, self.validations_since_best = auc, copy_of(self.weights), 0

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and values that :meth:`restore` takes.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        broken = [name for name, weights in self.weights.items() if not weights.isfinite().all()]
        if broken:
            raise FloatingPointError(
                f"{len(broken)} weights of the adapter are not finite after step {self.step} of {self.steps} (the "
                f"first is {broken[0]}), and no checkpoint is made of them: lower finetuning's learning_rate."
            )
        tensors = training_tensors(self.weights, self.optimizer, averages=self.averages, best=self.best)
        return tensors, {name: getattr(self, name) for name in VALUES}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to the state of a checkpoint of the same run."""
        groups = restore_training(checkpoint, self.weights, self.optimizer)
        self.averages, self.best = (
            {name: tensor.to(self.weights[name].device) for name, tensor in groups.get(group, {}).items()}
            for group in ("averages", "best")
        )
        for name in VALUES:
            setattr(self, name, checkpoint.values[name])


VALUES = ("step", "rows", "validations_since_best", "best_auc", "log")


def train_adapter(
    model: AnswerModel,
    examples: Examples,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
    *,
    proximal_weight: float = 0.0,
) -> pl.DataFrame:
    """Train a model's adapter in place and leave it at its best validation AUC, in eval mode.

    The loss is that of the examples. Each step's are split into forward passes within the token budget; AdamW follows a
    schedule laid out for exactly the steps that run. Over the last steps the weights are averaged, which evens out the
    noise of few rows (stochastic weight averaging, Izmailov et al. 2018, arXiv 1803.05407): from there on, it is the
    average that is validated and kept.

    In a group of processes, each takes its share of every step's rows and of the validation; gradients are summed over
    the processes, so that the weights stay the same in all.

    A run that was interrupted resumes from its last checkpoint, and on a CPU ends with the very same weights as a run
    that was not.

    With privacy, see :class:`~reclora_kedro.finetuning.privacy.PrivateRounds`, each step is a round, its randomness is
    not that of the seed, and the last weights are kept.

    Args:
        model: a base LLM with a trainable adapter.
        examples: rows to learn from, one by one or two by two.
        validation: rows to choose the weights by.
        config: training settings; ``processes`` is not read here, see
            :func:`reclora_kedro.finetuning.processes.fine_tune`, nor is ``objective``, which made the examples.
        checkpoints: where to keep checkpoints and look for one to resume from; None for neither.
        proximal_weight: of `proximal_term` beside the loss; it draws the weights to those that the run starts from.

    Returns:
        Training log, one row per step: rows (seen so far), train_loss, learning_rate, validation_loss, validation_auc
        and what the adapter's method measures, such as gate_entropy (null between validations), with privacy epsilon
        (spent until then; null where there is no noise) and delta, seconds (of training until then) and weights (how
        many are trained).

    Raises:
        FloatingPointError: the loss, its gradient or a weight is not finite.
        MemoryError: the GPU's memory does not suffice for a single row.
        OSError: a checkpoint cannot be written.
    """
    group = Group()
    main = group.rank == 0
    private = None
    if config.is_private:
        assert examples.users is not None
        private = private_rounds(examples.users, config.epochs, config.privacy, group)
    plan = private.examples if private else planned_steps(examples, config)
    run = TrainingRun(model.model, config, len(plan))
    anchor = copy_of(run.weights)
    with seeded(config.seed + group.rank, model.device):
        if checkpoints and (saved := checkpoints.newest()):
            resume(saved, run, model.device, group)
        if config.gradient_checkpointing:
            model.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        weights, budget = list(run.weights.values()), TokenBudget(config.tokens_per_batch)
        gradients_of = partial(set_gradients, model, examples, weights=weights, budget=budget)
        start = time.perf_counter() - (run.log[-1]["seconds"] or 0 if run.log else 0)
        total = sum(map(len, plan)) * examples.prompts_each
        with Progress("fine-tune", total, "rows", done=run.rows, shown=main) as progress:
            while not run.ended:
                chosen = plan[run.step]
                rows = examples.prompts.rows[examples.places(chosen)]
                if private:
                    losses = private.set_gradients(chosen, weights, gradients_of, group)
                else:
                    losses = gradients_of(chosen, group=group)
                if proximal_weight:
                    (proximal_weight * proximal_term(run.weights, anchor)).backward()
                norm = torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
                check_finite(losses, norm, rows, run)
                loss = losses.double().mean().item() if len(losses) else None  # a round may be of no user
                entry: dict[str, float | None] = {"train_loss": loss, "learning_rate": run.take_step(rows.size)}
                if run.due(config.rows_per_validation, rows.size):
                    entry |= validate(model, validation, run, group)
                if private:
                    entry |= private.spent(run.step)
                entry |= {"rows": run.rows, "seconds": time.perf_counter() - start}
                run.log.append(entry)
                if checkpoints and run.due(config.rows_per_checkpoint, rows.size):
                    tensors, values = run.checkpoint()
                    tensors |= random_states_of_all(group, model.device)
                    if main:
                        checkpoints.save(run.step, tensors, values)
                progress.update(rows.size)
                shown = "-" if loss is None else f"{loss:.3f}"
                progress.show(loss=shown, best_auc=f"{run.best_auc:.4f}" if run.best else "-")
        assign(run.weights, run.best)
        model.model.eval()
    spent = ["epsilon", "delta"] if private else []
    measured = dict.fromkeys([*model.method.measures, *spent, "seconds"], pl.Float64)
    trained = sum(weight.numel() for weight in weights)
    return pl.DataFrame(run.log, schema=LOG_SCHEMA | measured).with_columns(weights=pl.lit(trained, pl.Int64))


def training_report(**training_logs: pl.DataFrame) -> list[dict[str, Any]]:
    """One record per training: model, rows seen, validation_auc (of what was kept), and its last other values.

    These are weights (how many are trained), seconds, epsilon and delta of a private training, decided and confirmed of
    the last round of self-labelled pairs.

    Examples:
        >>> log = pl.DataFrame({"rows": [4, 8], "validation_auc": [0.6, 0.7], "seconds": [1, 2], "epsilon": [0.9, 1.5]})
        >>> [record] = training_report(reclora=log)
        >>> record["rows"], record["validation_auc"], record["epsilon"], record["confirmed"]
        (8, 0.7, 1.5, None)
    """
    return [
        {"model": model, "rows": log["rows"][-1], "validation_auc": validation_auc(log)}
        | {
            name: log[name][-1] if name in log.columns else None
            for name in ("weights", "seconds", "epsilon", "delta", "decided", "confirmed")
        }
        for model, log in training_logs.items()
    ]


def planned_steps(examples: Examples, config: TrainingConfig) -> list[np.ndarray]:
    """Numbers of the examples of every step of a run, in an order that the seed alone decides."""
    generator = np.random.default_rng(config.seed)
    size = max(1, config.batch_size // examples.prompts_each)
    epochs = [shuffled_batches(examples.lengths, size, generator) for _ in range(config.epochs)]
    return [chosen for epoch in epochs for chosen in epoch]


def lr_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Factor of the peak learning rate in one of ``steps`` steps, counted from 0: up in a line, then down to 0."""
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        return step / warmup
    left = (steps - step) / max(1, steps - warmup)
    return left if config.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def assign(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Set the weights to values by name; those without a value stay."""
    for name, value in values.items():
        weights[name].copy_(value)


def set_gradients(
    model: AnswerModel,
    examples: Examples,
    chosen: np.ndarray,
    weights: list[Tensor],
    budget: TokenBudget,
    group: Group | None = None,
) -> Tensor:
    """Give the weights the gradient of the mean loss over ``chosen``, whichever process of a group computes which.

    The gradient of a forward pass is added when the whole of it is there, so that one which exceeds the GPU's memory
    leaves nothing of itself.

    Returns:
        Loss of each of these examples, shape (chosen,).
    """
    model.model.train()
    losses = torch.zeros(len(chosen), device=model.device)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)

    def forward_and_backward(part: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:
        losses_of = partial(examples.losses, examples=chosen[part])
        return model.losses_and_gradients(examples.batch(chosen[part], model.device), losses_of, weights, len(chosen))

    share = np.arange(len(chosen)) if group is None else np.arange(group.rank, len(chosen), group.size)
    for part, (each, gradients) in budget.run(share, examples.lengths[chosen], forward_and_backward):
        losses[torch.from_numpy(part)] = each
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad += gradient
    if group is None:
        return losses
    group.sum_gradients(weights)
    return group.sum(losses)


def proximal_term(weights: dict[str, Tensor], anchor: dict[str, Tensor]) -> Tensor:
    """How far an adapter is from an earlier state of itself: PESO's regulariser (Yoo et al. 2026, arXiv 2510.25093).

    The sum over its weights, matrix by matrix, of the Kullback-Leibler divergence from the softmax over the earlier
    entries to the softmax over the present ones. It lets weights move together, and holds those the most that were
    large. Here gates are held as the LoRAs are.

    Examples:
        >>> weights, anchor = {"A": torch.tensor([[1.0, 2.0]])}, {"A": torch.tensor([[3.0, 2.0]])}
        >>> round(proximal_term(weights, anchor).item(), 3), proximal_term(weights, weights).item()
        (0.462, 0.0)
    """
    divergences = [
        functional.kl_div(
            anchor[name].flatten().log_softmax(0), now.flatten().log_softmax(0), log_target=True, reduction="sum"
        )
        for name, now in weights.items()
    ]
    return torch.stack(divergences).sum()


def check_finite(losses: Tensor, norm: Tensor, rows: np.ndarray, run: TrainingRun) -> None:
    """Stop before a step that would break the weights.

    Raises:
        FloatingPointError: an example's loss, or the gradient's norm, is not finite; the message names its rows.
    """
    broken = ~losses.isfinite().cpu().numpy()
    if not broken.any() and norm.isfinite():
        return
    what = f"loss is {losses[torch.from_numpy(broken)][0]}" if broken.any() else f"gradient's norm is {norm}"
    named = (rows[broken] if broken.any() else rows).ravel()
    more = f" and {len(named) - 20} more" if len(named) > 20 else ""
    raise FloatingPointError(
        f"The training {what} at step {run.step + 1} of {run.steps}, in row {', '.join(map(str, named[:20]))}{more} of "
        "the samples: lower finetuning's learning_rate or max_grad_norm, or look at the prompts and gate inputs of "
        "these rows. The step was not taken, and the last checkpoint is from before it."
    )


def validate(model: AnswerModel, validation: PromptSet, run: TrainingRun, group: Group) -> dict[str, float | None]:
    """AUC, log loss and the method's measures on the validation prompts, of the average if any; the best are kept."""
    latest = copy_of(run.weights)
    assign(run.weights, run.averages)
    model.model.eval()
    part = model.all_llm_logits(validation, run.config.tokens_per_batch, "validate", (group.rank, group.size))
    logits = group.sum(torch.from_numpy(part)).numpy()
    scores = model.probabilities(logits, validation)
    auc, loss = float(roc_auc_score(validation.labels, scores)), float(log_loss(validation.labels, scores))
    measured: dict[str, float] = {}
    if validation.gate_inputs is not None:
        measured = model.method.measure(model.model, validation.gate_inputs.values.to(model.device))
    run.keep_if_best(auc)
    assign(run.weights, latest)
    if group.rank == 0:
        logger.info("after %d rows: validation AUC %.4f, log loss %.4f", run.rows, auc, loss)
    return {"validation_auc": auc, "validation_loss": loss, **measured}


def random_states_of_all(group: Group, device: torch.device) -> dict[str, Tensor]:
    """Random states of every process, one row per process."""
    return {f"random/{name}": group.gather(state) for name, state in random_states(device).items()}


def resume(checkpoint: Checkpoint, run: TrainingRun, device: torch.device, group: Group) -> None:
    """Put a run, and this process's randomness, back to a checkpoint.

    A process that the interrupted run did not have keeps its own fresh randomness.
    """
    run.restore(checkpoint)
    states = {n.partition("/")[2]: t for n, t in checkpoint.tensors.items() if n.startswith("random/")}
    if group.rank < len(states["torch"]):
        restore_random_states({name: each[group.rank] for name, each in states.items()}, device)
    if group.rank == 0:
        done = "has all its steps" if run.ended else f"continues at step {run.step + 1} of {run.steps}"
        logger.info("Fine-tuning %s, from the checkpoint %s", done, checkpoint.file)
