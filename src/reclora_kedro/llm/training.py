"""Fine-tuning: an adapter learns from the few-shot prompts, the base LLM and the lens stay frozen."""

import logging
import time

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from reclora_kedro.llm.batching import batches_by_length, shuffled_batches
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.llm.scoring import PromptSet, answer_logits, score_prompts

logger = logging.getLogger(__name__)


class TrainingConfig(BaseModel):
    """How an adapter is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(gt=0, description="passes over the few-shot rows")
    rows_per_step: int = Field(gt=0, description="few-shot rows of an optimiser step")
    learning_rate: float = Field(gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    warmup_share: float = Field(ge=0, lt=1, description="share of the steps in which the learning rate rises")
    max_gradient_norm: float = Field(gt=0, description="gradients are clipped to this norm")
    averaged_share: float = Field(
        ge=0, le=1, description="share of the steps, the last ones, whose weights are averaged"
    )
    validations_per_epoch: int = Field(gt=0, description="how often an epoch is interrupted to validate")
    tokens_per_batch: int = Field(gt=0, description="most tokens in one forward pass, padding included")
    seed: int = Field(ge=0, description="seed of the adapter's initial weights, dropout and the order of rows")


def train_adapter(
    llm: LanguageModel, form: PromptFormat, few_shot: PromptSet, validation: PromptSet, config: TrainingConfig
) -> pl.DataFrame:
    """Train the adapter inside ``llm.model`` in place and leave it at its best validation AUC, in eval mode.

    The loss is the two-way cross entropy of the answers. Each step's rows are split into forward passes within the
    token budget; AdamW follows a linear schedule laid out for exactly the steps that run. Over the last steps the
    weights are averaged, which evens out the noise of few rows (Izmailov et al. 2018, arXiv 1803.05407): from there
    on, it is the average that is validated and kept.

    Args:
        llm: a base LLM whose ``model`` is a PEFT model with a trainable adapter.
        form: token ids of the two answers.
        few_shot: rows to learn from.
        validation: rows to choose the checkpoint by.
        config: training settings.

    Returns:
        Training log, one row a step: rows (seen so far), train_loss, validation_loss and validation_auc (null
        between validations), seconds (since the start).

    Raises:
        FloatingPointError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    epochs = [shuffled_batches(few_shot.lengths, config.rows_per_step, generator) for _ in range(config.epochs)]
    steps = [rows for epoch in epochs for rows in epoch]
    validate_after = {
        round(len(epochs[0]) * part / config.validations_per_epoch)
        for part in range(1, config.epochs * config.validations_per_epoch + 1)
    }
    trainable = {name: weights for name, weights in llm.model.named_parameters() if weights.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, round(config.warmup_share * len(steps)), len(steps))
    first_averaged = len(steps) - round(config.averaged_share * len(steps)) + 1
    averages: dict[str, Tensor] = {}
    log, best, best_auc, rows_seen, start = [], {}, -1.0, 0, time.perf_counter()
    with tqdm(total=sum(map(len, steps)), desc="fine-tune", unit="row", disable=None) as progress:
        for step, rows in enumerate(steps, start=1):
            loss = accumulate_gradients(llm, form, few_shot, rows, config.tokens_per_batch)
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"The training loss is {loss} at step {step} of {len(steps)}: lower finetuning's learning_rate."
                )
            torch.nn.utils.clip_grad_norm_(trainable.values(), config.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            rows_seen += len(rows)
            if step == first_averaged:
                averages = copy_of(trainable)
            elif step > first_averaged:
                for name, weights in trainable.items():
                    averages[name].lerp_(weights.detach(), 1 / (step - first_averaged + 1))
            auc = validation_loss = None
            if step in validate_after:
                latest = copy_of(trainable)
                assign(trainable, averages)
                auc, validation_loss = validate(llm, form, validation, config.tokens_per_batch)
                logger.info("after %d rows: validation AUC %.4f, log loss %.4f", rows_seen, auc, validation_loss)
                if auc > best_auc:
                    best_auc, best = auc, copy_of(trainable)
                assign(trainable, latest)
            log.append((rows_seen, loss, validation_loss, auc, time.perf_counter() - start))
            progress.update(len(rows))
            progress.set_postfix(loss=f"{loss:.3f}", best_auc=f"{best_auc:.4f}" if best else "-")
    assign(trainable, best)
    llm.model.eval()
    return pl.DataFrame(
        log,
        orient="row",
        schema={
            "rows": pl.Int64,
            "train_loss": pl.Float64,
            "validation_loss": pl.Float64,
            "validation_auc": pl.Float64,
            "seconds": pl.Float64,
        },
    )


def copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def assign(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Set the weights to values by name; those without a value stay."""
    for name, value in values.items():
        weights[name].copy_(value)


def accumulate_gradients(
    llm: LanguageModel, form: PromptFormat, prompts: PromptSet, rows: np.ndarray, tokens_per_batch: int
) -> float:
    """Add the gradients of the mean loss over ``rows``, in forward passes within the token budget; return the loss."""
    llm.model.train()
    total = 0.0
    for part in batches_by_length(prompts.lengths[rows], tokens_per_batch):
        chosen = rows[part]
        logits = answer_logits(llm, form, prompts.batch(chosen, llm.device))
        labels = torch.from_numpy(prompts.labels[chosen]).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(rows)
        loss.backward()
        total += loss.item()
    return total


def validate(
    llm: LanguageModel, form: PromptFormat, validation: PromptSet, tokens_per_batch: int
) -> tuple[float, float]:
    """AUC and log loss on the validation prompts, with dropout off."""
    llm.model.eval()
    scores = score_prompts(llm, form, validation, tokens_per_batch, "validate")
    return float(roc_auc_score(validation.labels, scores)), float(log_loss(validation.labels, scores))
