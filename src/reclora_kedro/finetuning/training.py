"""Training of an adapter on the few-shot prompts; the base LLM and the lens stay frozen."""

import logging
import math
import time
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor
from torch.nn import functional

from kedro_provenance.parameters import Resource
from reclora_kedro.devices import seeded
from reclora_kedro.distributed.checkpoints import (
    Checkpoint,
    CheckpointStore,
    random_states,
    restore_random_states,
    restore_training,
    training_tensors,
)
from reclora_kedro.distributed.group import ALONE, Group
from reclora_kedro.evaluation.metrics import kept_validation
from reclora_kedro.extensions import Registry, block_with
from reclora_kedro.finetuning.examples import Examples, ObjectiveField
from reclora_kedro.finetuning.gradients import GradientMaker
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.batching import TokenBudget
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.parameters import Count, LearningRate, NonNegative, Positive, Seed, Share
from reclora_kedro.progress import Progress

logger = logging.getLogger(__name__)

LOG_SCHEMA: dict[str, Any] = {  # before what the adapter's method and the gradient maker measure, and seconds
    "rows": pl.Int64,
    "train_loss": pl.Float64,
    "learning_rate": pl.Float64,
    "validation_loss": pl.Float64,
    "validation_auc": pl.Float64,
}
GRADIENT_MAKERS = Registry("reclora_kedro.finetuning.gradients", ())
"""Modules of extensions, each with a subclass of `GradientMaker`."""
MAKERS: list[Any] = [GRADIENT_MAKERS.load_class(kind, GradientMaker) for kind in GRADIENT_MAKERS.modules()]
Extended: Any = block_with({maker.block: Annotated[maker, Field(default_factory=maker)] for maker in MAKERS})


class TrainingConfig(Extended):
    """Settings of the training of an adapter; gradient makers of extensions add their blocks."""

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
    objective: ObjectiveField
    seed: Seed

    @property
    def gradient_maker(self) -> GradientMaker:
        return next(iter(self._makers), GradientMaker())

    @property
    def _makers(self) -> list[GradientMaker]:
        return [value for value in vars(self).values() if isinstance(value, GradientMaker) and value.is_on]

    @model_validator(mode="after")
    def _has_one_gradient_maker(self) -> Self:
        if len(self._makers) > 1:
            names = [name for name, value in vars(self).items() if value in self._makers]
            raise ValueError(f"{' and '.join(names)} would both make the gradients: set the kind of one to none")
        return self


def train_adapter(
    model: AnswerModel,
    examples: Examples,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
    group: Group = ALONE,
    *,
    proximal_weight: float = 0.0,
) -> pl.DataFrame:
    """Train a model's adapter in place and leave it at its best validation AUC, in eval mode.

    AdamW follows a schedule over exactly the steps that run. Over the last steps the weights are averaged, which
    reduces the noise of few rows (stochastic weight averaging, Izmailov et al. 2018, arXiv 1803.05407); from then on,
    the average is validated and kept.

    In a group of processes, each computes its share of every step and of the validation; gradients are summed over the
    processes, so that all hold the same weights. An interrupted run resumes from its last checkpoint and, on a CPU,
    ends with exactly the weights of an uninterrupted run.

    Args:
        config: training settings, except for ``processes`` and ``objective``, which callers read.
        proximal_weight: weight of `proximal_term`, which keeps the weights near the initial ones.

    Returns:
        Training log, one row per step: rows (seen so far), train_loss, learning_rate, validation_loss, validation_auc,
        measures of the adapter's method at validations, such as gate_entropy (null between them), measures of the
        gradient maker, seconds (of training so far), weights (number of trained ones) and, if the last weights are kept
        instead of the best, kept_last.

    Raises:
        FloatingPointError: the loss, its gradient or a weight is not finite.
        MemoryError: the GPU's memory does not suffice for a single row.
        OSError: a checkpoint cannot be written.
    """
    maker = config.gradient_maker
    gradients = maker.gradients(examples, config, group)
    run = TrainingRun(model.model, config, len(gradients.steps))
    start_weights = copy_of(run.weights)
    weights = list(run.weights.values())
    mean_gradient = partial(
        set_gradients, model, examples, weights=weights, budget=TokenBudget(config.tokens_per_batch)
    )
    with seeded(config.seed + group.rank, model.device):
        if checkpoints and (saved := checkpoints.newest()):
            resume(saved, run, model.device, group)
        if config.gradient_checkpointing:
            model.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        start = time.perf_counter() - (run.log[-1]["seconds"] or 0 if run.log else 0)
        total = sum(map(len, gradients.steps)) * examples.prompts_each
        with Progress("fine-tune", total, "rows", done=run.rows, shown=group.rank == 0) as progress:
            while not run.ended:
                # the gradient of the step's examples, and of the distance to the start
                chosen = gradients.steps[run.step]
                rows = examples.prompts.rows[examples.places(chosen)]
                losses = gradients.set(chosen, weights, mean_gradient, group)
                if proximal_weight:
                    (proximal_weight * proximal_term(run.weights, start_weights)).backward()

                # one step of AdamW
                norm = torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
                check_finite(losses, norm, rows, run)
                loss = losses.double().mean().item() if len(losses) else None  # a step may have no examples
                entry: dict[str, float | None] = {"train_loss": loss, "learning_rate": run.take_step(rows.size)}

                # validation, which may end the training
                if run.is_due(config.rows_per_validation, rows.size):
                    entry |= validate(model, validation, run, group)

                # the log and a checkpoint
                entry |= gradients.measure(run.step)
                entry |= {"rows": run.rows, "seconds": time.perf_counter() - start}
                run.log.append(entry)
                if checkpoints and run.is_due(config.rows_per_checkpoint, rows.size):
                    tensors, values = run.checkpoint()
                    tensors |= random_states_of_all(group, model.device)
                    if group.rank == 0:
                        checkpoints.save(run.step, tensors, values)
                progress.update(rows.size)
                shown_loss = "-" if loss is None else f"{loss:.3f}"
                progress.show(loss=shown_loss, best_auc=f"{run.best_auc:.4f}" if run.best else "-")
        assign(run.weights, run.best)
        model.model.eval()
    measured = dict.fromkeys([*model.method.measures, *maker.measures, "seconds"], pl.Float64)
    log = pl.DataFrame(run.log, schema=LOG_SCHEMA | measured)
    log = log.with_columns(weights=pl.lit(sum(weight.numel() for weight in weights), pl.Int64))
    return log.with_columns(kept_last=pl.lit(True)) if maker.keeps_last else log


class TrainingRun:
    """State of a training, which is what a checkpoint holds apart from random states."""

    VALUES = ("step", "rows", "validations_since_best", "best_auc", "log")

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
        """Whether all steps are done or the validation AUC has stopped improving."""
        patience = self.config.patience
        return self.step == self.steps or (patience is not None and self.validations_since_best >= patience)

    def is_due(self, interval: int, rows: int) -> bool:
        """Whether an action at an interval of rows is due after the last step, which took ``rows`` rows."""
        return self.ended or self.rows // interval > (self.rows - rows) // interval

    def take_step(self, rows: int) -> float:
        """Take an AdamW step with the gradients of ``rows`` rows, update the average, return the learning rate."""
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
        """Keep the present weights if their validation AUC is the best so far, or if the last are to be kept."""
        self.validations_since_best += 1
        if auc > self.best_auc or self.config.gradient_maker.keeps_last:
            self.best_auc, self.best, self.validations_since_best = auc, copy_of(self.weights), 0

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and values for :meth:`restore`; raise FloatingPointError if a weight is not finite."""
        broken = [name for name, weights in self.weights.items() if not weights.isfinite().all()]
        if broken:
            raise FloatingPointError(
                f"{len(broken)} weights of the adapter are not finite after step {self.step} of {self.steps} (the "
                f"first is {broken[0]}), and no checkpoint is made of them: lower finetuning's learning_rate."
            )
        tensors = training_tensors(self.weights, self.optimizer, averages=self.averages, best=self.best)
        return tensors, {name: getattr(self, name) for name in self.VALUES}

    def restore(self, checkpoint: Checkpoint) -> None:
        groups = restore_training(checkpoint, self.weights, self.optimizer)
        self.averages, self.best = (
            {name: tensor.to(self.weights[name].device) for name, tensor in groups.get(group, {}).items()}
            for group in ("averages", "best")
        )
        for name in self.VALUES:
            setattr(self, name, checkpoint.values[name])


def lr_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the factor of the peak learning rate in a step from 0: linear warm-up, then linear decay to 0."""
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        return step / warmup
    remaining = (steps - step) / max(1, steps - warmup)
    return remaining if config.schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2


def copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def assign(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Set weights by name in place; those without a value stay unchanged."""
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
    """Set the gradient of the mean loss over ``chosen`` examples, by all processes; return losses, shape (chosen,).

    The examples are split into forward passes within the token budget. The gradient of a pass is added once it is
    complete, so that a pass that exceeds the GPU's memory contributes nothing.
    """
    model.model.train()
    losses = torch.zeros(len(chosen), device=model.device)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)

    def forward_and_backward(part: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:
        some = chosen[part]

        def losses_of(batch: PromptBatch) -> Tensor:
            return examples.losses(examples.outputs(model, batch, some), some)

        return model.losses_and_gradients(examples.batch(some, model.device), losses_of, weights, len(chosen))

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
    """Return PESO's regulariser, a distance of weights from earlier ones (Yoo et al. 2026, arXiv 2510.25093).

    It is the sum over all weight matrices of the Kullback-Leibler divergence from the softmax over the earlier entries
    to the softmax over the present ones: entries may shift together, and large ones are held the most. Here it covers
    gates as well as LoRAs.

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
    """Raise FloatingPointError, with the rows, before a step whose losses or gradient norm are not finite."""
    broken = ~losses.isfinite().cpu().numpy()
    if not broken.any() and norm.isfinite():
        return
    part = f"loss is {losses[torch.from_numpy(broken)][0]}" if broken.any() else f"gradient's norm is {norm}"
    named = (rows[broken] if broken.any() else rows).ravel()
    more = f" and {len(named) - 20} more" if len(named) > 20 else ""
    raise FloatingPointError(
        f"The training {part} at step {run.step + 1} of {run.steps}, in row {', '.join(map(str, named[:20]))}{more} of "
        "the samples: lower finetuning's learning_rate or max_grad_norm, or look at the prompts and gate inputs of "
        "these rows. The step was not taken, and the last checkpoint is from before it."
    )


def validate(model: AnswerModel, validation: PromptSet, run: TrainingRun, group: Group) -> dict[str, float | None]:
    """Return AUC, log loss and measures on the validation prompts, of the average if any; keep the best weights."""
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
    return {f"random/{name}": group.gather(state) for name, state in random_states(device).items()}


def resume(checkpoint: Checkpoint, run: TrainingRun, device: torch.device, group: Group) -> None:
    """Restore a run and this process's random state from a checkpoint.

    A process that the interrupted run did not have keeps its own fresh random state.
    """
    run.restore(checkpoint)
    states = {n.partition("/")[2]: t for n, t in checkpoint.tensors.items() if n.startswith("random/")}
    if group.rank < len(states["torch"]):
        restore_random_states({name: each[group.rank] for name, each in states.items()}, device)
    if group.rank == 0:
        done = "has all its steps" if run.ended else f"continues at step {run.step + 1} of {run.steps}"
        logger.info("Fine-tuning %s, from the checkpoint %s", done, checkpoint.file)


def training_report(**training_logs: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one record per training: model, rows seen, and validation_auc of the kept weights.

    Further columns of a log, such as seconds, weights and measures of the gradient maker, follow by their last values.

    Examples:
        >>> log = pl.DataFrame({"rows": [4, 8], "validation_auc": [0.6, 0.7], "gate_entropy": [0.9, 0.8]})
        >>> training_report(reclora=log)
        [{'model': 'reclora', 'rows': 8, 'validation_auc': 0.7, 'gate_entropy': 0.8}]
    """
    return [
        {"model": model, "rows": log["rows"][-1], "validation_auc": kept_validation(log)}
        | {name: log[name][-1] for name in log.columns if name not in {*LOG_SCHEMA, "kept_last"}}
        for model, log in training_logs.items()
    ]
