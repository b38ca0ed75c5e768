"""Tune a base LLM's weights, all of them or by a LoRA that is merged; losses of texts and prompts."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reclora_extras.base_models.config import TuningConfig
from reclora_kedro.adapters.lora import with_lora
from reclora_kedro.devices import seeded
from reclora_kedro.llm.attention import FrozenLayers
from reclora_kedro.llm.batching import TokenBudget, pad_right, shuffled_batches
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.optimization import require_finite
from reclora_kedro.progress import Progress

MAX_GRAD_NORM = 1.0

Losses = Callable[[LanguageModel, np.ndarray], Tensor]  # loss of each of some rows, shape (rows,), by an LLM


def with_weights(llm: LanguageModel, model: Any) -> LanguageModel:
    """Return the LLM with a model of other weights, and without cached states."""
    return replace(llm, model=model, frozen=FrozenLayers())


def trainable_copy(llm: LanguageModel) -> LanguageModel:
    """Return a copy in float32, or in a finer type of the LLM, all of whose weights have gradients."""
    precision = torch.promote_types(llm.model.dtype, torch.float32)
    return with_weights(llm, copy.deepcopy(llm.model).to(precision).requires_grad_(True))


def tune(
    llm: LanguageModel, lengths: np.ndarray, losses: Losses, config: TuningConfig, tokens_per_batch: int, seed: int
) -> tuple[LanguageModel, dict[str, float]]:
    """Tune a copy of an LLM by AdamW with a linearly falling learning rate.

    The copy learns in float32 and is converted back; without epochs the LLM itself is returned. Rows have `lengths` in
    tokens. Beside the LLM, it returns steps, first_loss and last_loss (means over a tenth of the steps), none without
    epochs. FloatingPointError is raised for a loss or a gradient that is not finite, MemoryError if the GPU's memory
    does not suffice for a single row.
    """
    random = np.random.default_rng(seed)
    steps = [rows for _ in range(config.epochs) for rows in shuffled_batches(lengths, config.batch_size, random)]
    if not steps:
        return llm, {}
    advice = (
        "lower the learning_rate of this step of base_model.steps, which is "
        f"{config.learning_rate:g}. Nothing was saved."
    )
    history: list[float] = []
    with seeded(seed, llm.device), Progress("tune the LLM", len(steps), "steps") as progress:
        tuned = trainable_copy(llm)
        tuned = replace(tuned, model=with_lora(tuned.model, config.lora_rank))
        weights = [weight for weight in tuned.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
        budget = TokenBudget(tokens_per_batch)
        for step, rows in enumerate(steps):
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - step / len(steps))
            loss = set_gradients(tuned, rows, lengths, losses, weights, budget)
            norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
            place = f"at step {step + 1} of {len(steps)}"
            require_finite(loss, "The loss of the base LLM", place, advice)
            require_finite(norm, "The norm of the gradient of the base LLM", place, advice)
            optimizer.step()
            history.append(loss)
            progress.update()
            progress.show(loss=f"{loss:.3f}")
    model = tuned.model if config.lora_rank is None else tuned.model.merge_and_unload()
    model = model.requires_grad_(False).eval().to(llm.model.dtype)
    some = -(-len(history) // 10)
    first, last = (float(np.mean(part)) for part in (history[:some], history[-some:]))
    return with_weights(llm, model), {"steps": len(steps), "first_loss": first, "last_loss": last}


def set_gradients(
    llm: LanguageModel,
    rows: np.ndarray,
    lengths: np.ndarray,
    losses: Losses,
    weights: list[Tensor],
    budget: TokenBudget,
) -> float:
    """Set the gradient of the mean loss over rows on the weights, and return that mean."""
    total = 0.0
    for weight in weights:
        weight.grad = torch.zeros_like(weight)

    def forward_and_backward(part: np.ndarray) -> tuple[float, tuple[Tensor, ...]]:
        loss = losses(llm, rows[part]).sum() / len(rows)
        return loss.item(), torch.autograd.grad(loss, weights, materialize_grads=True)

    for _, (loss, gradients) in budget.run(np.arange(len(rows)), lengths[rows], forward_and_backward):
        total += loss
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad += gradient
    return total


def reading_losses(logits: Tensor, token_ids: Tensor, last: Tensor) -> Tensor:
    """Return the mean cross entropy of each text's tokens after the first, in nats, 0 for a single token: (batch,).

    `logits` are (batch, tokens, vocabulary), the right-padded texts (batch, tokens), and `last` the position of each
    text's last token.
    """
    following = token_ids.roll(-1, dims=1)  # behind the last token, that of no text
    each = functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(token_ids)
    real = torch.arange(each.shape[1], device=each.device) < last[:, None]
    return (each * real).sum(1) / last.clamp(min=1)


def text_losses(token_ids: list[list[int]]) -> Losses:
    """Return the losses of reading texts, see `reading_losses`."""

    def losses(llm: LanguageModel, rows: np.ndarray) -> Tensor:
        ids, last = pad_right([token_ids[row] for row in rows], llm.device)
        return reading_losses(llm.model(input_ids=ids, use_cache=False).logits.float(), ids, last)

    return losses


def prompt_losses(prompts: PromptSet, answers: PromptFormat) -> Losses:
    """Return the losses of prompts, see `reading_and_answering_losses`."""

    def losses(llm: LanguageModel, rows: np.ndarray) -> Tensor:
        batch = prompts.batch(rows, llm.device)
        logits = llm.model(input_ids=batch.token_ids, use_cache=False).logits
        return reading_and_answering_losses(logits, batch, prompts.labels[rows], answers)

    return losses


def reading_and_answering_losses(
    logits: Tensor, batch: PromptBatch, labels: np.ndarray, answers: PromptFormat
) -> Tensor:
    """Return the loss of reading each prompt, see `reading_losses`, plus that of answering it: (batch,).

    `logits` are (batch, tokens, vocabulary); a label is 1 for a like.
    """
    logits = logits.float()
    end = logits[torch.arange(len(logits), device=logits.device), batch.last]
    answer, likes = end[:, answers.positive] - end[:, answers.negative], torch.from_numpy(np.float32(labels))
    wrong = functional.binary_cross_entropy_with_logits(answer, likes.to(answer.device), reduction="none")
    return reading_losses(logits, batch.token_ids, batch.last) + wrong


@torch.inference_mode()
def losses_of_texts(llm: LanguageModel, token_ids: list[list[int]], tokens_per_batch: int) -> np.ndarray:
    """Return the loss of reading each text, float64, shape (texts,), see `reading_losses`."""
    of_texts, lengths = np.zeros(len(token_ids)), np.array([len(ids) for ids in token_ids])
    losses = text_losses(token_ids)
    with Progress("read texts", len(token_ids), "texts") as progress:
        batches = TokenBudget(tokens_per_batch).run(
            np.flatnonzero(lengths), lengths, lambda rows: losses(llm, rows).double().cpu().numpy()
        )
        for rows, values in batches:
            of_texts[rows] = values
            progress.update(len(rows))
    return of_texts
