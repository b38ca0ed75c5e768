"""Training of an adapter on the few-shot prompts, in one process or several; the base LLM and the lens stay frozen."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor
from torch.nn import functional

from reclora_kedro.devices import seeded
from reclora_kedro.distributed.checkpoints import (
    Checkpoint,
    CheckpointStore,
    random_states,
    restore_random_states,
    restore_training,
    training_tensors,
)
from reclora_kedro.distributed.engine import train_together
from reclora_kedro.distributed.group import ALONE, Group, train_in_processes
from reclora_kedro.finetuning.config import TrainingConfig
from reclora_kedro.finetuning.examples import Examples
from reclora_kedro.finetuning.privacy import PRIVACY_SPENT, private_rounds, set_gradients
from reclora_kedro.finetuning.training_log import LOG_SCHEMA
from reclora_kedro.llm.answer_model import AnswerModel, PackedModel
from reclora_kedro.llm.batching import TokenBudget, shuffled_batches
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.optimization import TrainingLog, assign, copy_of, require_finite
from reclora_kedro.progress import Progress

logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 1.0  # the usual bound; on few rows, a single one could otherwise undo the steps before
WEIGHT_DECAY = 0.0  # an adapter of few weights, trained for few steps and chosen by its validation, wants no restraint


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

    The learning rate of AdamW falls linearly to 0 over exactly the steps that run.

    In a group of processes, each computes its share of every step and of the validation; gradients are summed over the
    processes, so that all hold the same weights. An interrupted run resumes from its last checkpoint and, on a CPU,
    ends with exactly the weights of an uninterrupted run. `proximal_weight` is that of `proximal_term`, which keeps the
    weights near the initial ones.

    Returns:
        Training log, one row per step: rows (seen so far), train_loss, learning_rate, validation_loss, validation_auc,
        measures of the adapter's method at validations, such as gate_entropy (null between them), with privacy epsilon
        and delta, seconds (of training so far), weights (number of trained ones) and, if the last weights are kept
        instead of the best, kept_last.

    FloatingPointError is raised where the loss, its gradient or a weight is not finite, MemoryError if the GPU's memory
    does not suffice for a single row, OSError if a checkpoint cannot be written.
    """
    private = private_rounds(examples.users, config.epochs, config.privacy, group) if config.privacy.is_on else None
    steps = private.steps if private else shuffled_steps(examples, config)
    run = TrainingRun(model.model, config, len(steps))
    start_weights, weights = copy_of(run.weights), list(run.weights.values())
    budget = TokenBudget(config.tokens_per_batch)
    with seeded(config.seed + group.rank, model.device):
        if checkpoints and (saved := checkpoints.newest()):
            resume(saved, run, model.device, group)
        if config.gradient_checkpointing:
            model.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        records = run.log.records
        start = time.perf_counter() - (records[-1]["seconds"] or 0 if records else 0)
        total = sum(map(len, steps)) * examples.prompts_each
        with Progress("fine-tune", total, "rows", done=run.rows, shown=group.rank == 0) as progress:
            while not run.ended:
                # the gradient of the step's examples, and of the distance to the start
                chosen = steps[run.step]
                rows = examples.prompts.rows[examples.places(chosen)]
                if private:
                    losses = private.set_gradients(model, examples, chosen, weights, budget, group)
                else:
                    losses = set_gradients(model, examples, chosen, weights, budget, group)
                if proximal_weight:
                    (proximal_weight * proximal_term(run.weights, start_weights)).backward()

                # one step of AdamW
                norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
                check_finite(losses, norm, rows, run)
                loss = losses.double().mean().item() if len(losses) else None  # a step may have no examples
                entry: dict[str, float | None] = {"train_loss": loss, "learning_rate": run.take_step(rows.size)}

                # validation, which may end the training
                if run.is_due(config.rows_per_validation, rows.size):
                    entry |= validate(model, validation, run, group)

                # the log and a checkpoint
                if private:
                    entry |= private.spent(run.step)
                records.append(entry | {"rows": run.rows, "seconds": time.perf_counter() - start})
                if checkpoints and run.is_due(config.rows_per_checkpoint, rows.size):
                    tensors, values = run.checkpoint()
                    states = random_states(model.device).items()
                    tensors |= {f"random/{name}": group.gather(state) for name, state in states}
                    if group.rank == 0:
                        checkpoints.save(run.step, tensors, values)
                progress.update(rows.size)
                best_auc = f"{run.log.score[0]:.4f}" if run.log.best else "-"
                progress.show(loss="-" if loss is None else f"{loss:.3f}", best_auc=best_auc)
        assign(run.weights, run.log.best)
        model.model.eval()
    measured = dict.fromkeys([*model.method.measures, *(PRIVACY_SPENT if private else ()), "seconds"], pl.Float64)
    log = pl.DataFrame(records, schema=LOG_SCHEMA | measured)
    log = log.with_columns(weights=pl.lit(sum(weight.numel() for weight in weights), pl.Int64))
    return log.with_columns(kept_last=pl.lit(True)) if private else log


def shuffled_steps(examples: Examples, config: TrainingConfig) -> list[np.ndarray]:
    """Return the examples of each step; each epoch has all of them, in an order drawn by the seed."""
    generator = np.random.default_rng(config.seed)
    size = max(1, config.batch_size // examples.prompts_each)
    epochs = [shuffled_batches(examples.lengths, size, generator) for _ in range(config.epochs)]
    return [chosen for epoch in epochs for chosen in epoch]


class TrainingRun:
    """State of a training, which is what a checkpoint holds apart from random states."""

    def __init__(self, model: Any, config: TrainingConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        self.weights = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), weight_decay=WEIGHT_DECAY)
        self.step = self.rows = 0
        self.log = TrainingLog(patience=None)  # the learning rate falls to 0 at a fixed last step

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self.step == self.steps

    def is_due(self, interval: int, rows: int) -> bool:
        """Whether an action at an interval of rows is due after the last step, which took ``rows`` rows."""
        return self.ended or self.rows // interval > (self.rows - rows) // interval

    def take_step(self, rows: int) -> float:
        """Take an AdamW step with the gradients of ``rows`` rows; return the learning rate, which falls linearly."""
        rate = self.config.learning_rate * ((self.steps - self.step) / self.steps)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self.rows += rows
        return rate

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and values for :meth:`restore`; raise FloatingPointError if a weight is not finite."""
        broken = [name for name, weights in self.weights.items() if not weights.isfinite().all()]
        if broken:
            raise FloatingPointError(
                f"{len(broken)} weights of the adapter are not finite after step {self.step} of {self.steps} (the "
                f"first is {broken[0]}), and no checkpoint is made of them: lower finetuning's learning_rate."
            )
        tensors = training_tensors(self.weights, self.optimizer, best=self.log.best)
        return tensors, {"step": self.step, "rows": self.rows, **self.log.values()}

    def restore(self, checkpoint: Checkpoint) -> None:
        groups = restore_training(checkpoint, self.weights, self.optimizer)
        best = {name: tensor.to(self.weights[name].device) for name, tensor in groups.get("best", {}).items()}
        self.step, self.rows = checkpoint.values["step"], checkpoint.values["rows"]
        self.log.restore(checkpoint.values, best)


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
    named = (rows[broken] if broken.any() else rows).ravel()
    more = f" and {len(named) - 20} more" if len(named) > 20 else ""
    place = f"at step {run.step + 1} of {run.steps}, in row {', '.join(map(str, named[:20]))}{more} of the samples"
    advice = (
        "lower finetuning's learning_rate, or look at the prompts and gate inputs of these rows. The step was not "
        "taken, and the last checkpoint is from before it."
    )
    require_finite(losses, "The training loss", place, advice)
    require_finite(norm, "The training gradient's norm", place, advice)


def validate(model: AnswerModel, validation: PromptSet, run: TrainingRun, group: Group) -> dict[str, float | None]:
    """Return AUC, log loss and measures on the validation prompts; keep the best weights."""
    model.model.eval()
    part = model.all_llm_logits(validation, run.config.tokens_per_batch, "validate", (group.rank, group.size))
    logits = group.sum(torch.from_numpy(part)).numpy()
    scores = model.probabilities(logits, validation)
    auc, loss = float(roc_auc_score(validation.labels, scores)), float(log_loss(validation.labels, scores))
    measured: dict[str, float] = {}
    if validation.gate_inputs is not None:
        measured = model.method.measure(model.model, validation.gate_inputs.values.to(model.device))
    run.log.keep_if_best(run.weights, auc, keep_last=run.config.privacy.is_on)
    if group.rank == 0:
        logger.info("after %d rows: validation AUC %.4f, log loss %.4f", run.rows, auc, loss)
    return {"validation_auc": auc, "validation_loss": loss, **measured}


def resume(checkpoint: Checkpoint, run: TrainingRun, device: torch.device, group: Group) -> None:
    """Restore a run and, where the interrupted one had this process too, its random state from a checkpoint."""
    run.restore(checkpoint)
    states = {n.partition("/")[2]: t for n, t in checkpoint.tensors.items() if n.startswith("random/")}
    if group.rank < len(states["torch"]):
        restore_random_states({name: each[group.rank] for name, each in states.items()}, device)
    if group.rank == 0:
        done = "has all its steps" if run.ended else f"continues at step {run.step + 1} of {run.steps}"
        logger.info("Fine-tuning %s, from the checkpoint %s", done, checkpoint.file)


def fine_tune(
    model: AnswerModel,
    examples: Examples,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
    *,
    proximal_weight: float = 0.0,
) -> pl.DataFrame:
    """Run `train_adapter` in the processes that the settings ask for.

    If the model's engine has workers, they train; otherwise ``config.processes`` local processes do, and meanwhile the
    model leaves the GPU to them. ShardError is raised if the workers failed, RuntimeError, with the reason of the
    first, if the processes did, and ValueError for fewer GPUs than processes.
    """
    data = partial(train_adapter, examples=examples, validation=validation, checkpoints=checkpoints)
    train = partial(data, config=config, proximal_weight=proximal_weight)
    if not model.engine.spreads and config.processes == 1:
        return train(model)
    train_packed = partial(_train_packed, model.packed(), train)
    if model.engine.spreads:
        weights, log = train_together(train_packed, model.engine, "fine-tuning")
    else:
        gpus = torch.cuda.device_count()
        if model.device.type == "cuda" and gpus < config.processes:
            raise ValueError(
                f"The training's `processes` is {config.processes}, but this machine has {gpus} GPUs and each process "
                "takes one: lower it."
            )
        device = model.device
        model.model.to("cpu")
        torch.cuda.empty_cache()
        try:
            weights, log = train_in_processes(train_packed, config.processes, "Fine-tuning")
        finally:
            model.model.to(device)
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model.model, load(weights))
    model.model.eval()
    return log


def _train_packed(packed: PackedModel, train: Callable[..., pl.DataFrame], group: Group) -> tuple[bytes, pl.DataFrame]:
    """Train in one process of a group; return the trained adapter's weights and the log."""
    model = packed.load(trainable=True)
    log = train(model, group=group)
    return model.packed().adapter["adapter_model.safetensors"], log
