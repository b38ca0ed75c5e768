"""Tuning of an item encoder on behaviour, so that items liked by the same users get similar vectors."""

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reclora_kedro.adapters.lora import with_lora
from reclora_kedro.devices import seeded
from reclora_kedro.finetuning.config import EncoderTuningConfig
from reclora_kedro.history.item_pairs import TextPairs
from reclora_kedro.llm.batching import pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.sentence_encoder import SentenceEncoder, lower_layers
from reclora_kedro.optimization import TrainingLog, assign, require_finite
from reclora_kedro.progress import Progress

LENGTH_GROUPS = 8  # number of forward passes per batch; texts are grouped by length to reduce padding

WEIGHT_DECAY = 0.01  # AdamW's usual one
VALIDATION_PAIRS = 300  # of a validation like and an earlier training like; each has 299 negatives

logger = logging.getLogger(__name__)


def tune_encoder(
    encoder: SentenceEncoder | LanguageModel, pairs: TextPairs, config: EncoderTuningConfig, max_tokens: int
) -> tuple[SentenceEncoder, list[dict[str, Any]]]:
    """Tune a copy of an encoder and keep the weights of the best validation AUC, possibly the initial ones.

    The loss is InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) over cosines with in-batch negatives, in both
    directions; pairs that share a text are not negatives of each other. An LLM is tuned with mean pooling.

    Returns:
        The tuned encoder, frozen, and its training log, one record per validation: step, pairs (seen so far), loss
        (mean since the previous validation; None at first), validation_loss, validation_auc (share of negatives that
        are farther from a text than its own pair's text), seconds.
    """
    advice = f"lower item_encoder.learning_rate, which is {config.learning_rate:g}. Nothing was saved."
    random = np.random.default_rng(config.seed)
    validation = random.permutation(pairs.validation)[:VALIDATION_PAIRS]
    log, size = TrainingLog(config.patience), min(config.batch_size, len(pairs.training))
    progress = Progress("tune the encoder", config.max_steps, "steps", at_most=True)
    with seeded(config.seed, encoder.device), progress:
        tuned = lower_layers(encoder, config.layers)
        tuned = replace(tuned, model=with_lora(tuned.model, config.lora_rank))
        tuned.model.eval()  # no dropout: few pairs are drawn twice
        token_ids = tuned.tokenize(pairs.texts, max_tokens)
        weights = {name: weight for name, weight in tuned.model.named_parameters() if weight.requires_grad}
        optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        started, losses = time.perf_counter(), list[float]()

        def require_finite_loss(loss: Tensor, kind: str, step: int) -> None:
            subject = f"The {kind} loss of the item encoder"
            require_finite(loss, subject, f"at step {step} of {config.max_steps}", advice)

        for step in range(config.max_steps + 1):
            if step % config.steps_per_validation == 0 or step == config.max_steps:
                with torch.inference_mode():
                    loss, auc = info_nce(tuned, token_ids, validation, config.temperature)
                require_finite_loss(loss, "validation", step)
                train_loss = float(np.mean(losses)) if losses else None
                record = {"step": step, "pairs": step * size, "loss": train_loss, "validation_loss": loss.item()}
                log.records.append(record | {"validation_auc": auc.item(), "seconds": time.perf_counter() - started})
                logger.info("after %d steps: validation loss %.3f, AUC %.4f", step, loss, auc)
                losses = []
                log.keep_if_best(weights, auc.item())
                if log.is_over:
                    break
            if step < config.max_steps:
                batch = pairs.training[random.choice(len(pairs.training), size, replace=False)]
                loss, _ = info_nce(tuned, token_ids, batch, config.temperature)
                require_finite_loss(loss, "training", step + 1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                progress.update()
        assign(weights, log.best)
    [best_auc] = log.score
    if best_auc == log.records[0]["validation_auc"]:
        logger.warning(
            "No validation AUC of the item encoder was above %.4f, the AUC before tuning: its weights stay as they "
            "were. Lower item_encoder.learning_rate.",
            best_auc,
        )
    model = tuned.model if config.lora_rank is None else tuned.model.merge_and_unload()
    return replace(tuned, model=model.requires_grad_(False)), log.records


def info_nce(
    encoder: SentenceEncoder, token_ids: list[list[int]], pairs: np.ndarray, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return InfoNCE loss and AUC (own pair's cosine against its negatives') of pairs, indices of texts (n, 2)."""
    texts, place = np.unique(pairs, return_inverse=True)
    by_length = np.argsort([len(token_ids[text]) for text in texts], kind="stable")
    groups = [
        encoder.encode(*pad_right([token_ids[texts[row]] for row in group], encoder.device))
        for group in np.array_split(by_length, min(LENGTH_GROUPS, len(texts)))
    ]
    vectors = torch.cat(groups)[np.argsort(by_length)[place.reshape(pairs.shape)]]
    shares_text = (pairs[:, None, :, None] == pairs[None, :, None, :]).any(axis=(2, 3))
    np.fill_diagonal(shares_text, False)
    cosines = vectors[:, 0] @ vectors[:, 1].T
    logits = (cosines / temperature).masked_fill(torch.from_numpy(shares_text).to(encoder.device), -torch.inf)
    own = torch.arange(len(pairs), device=encoder.device)
    loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    negatives = logits.isfinite() & (own != own[:, None])
    farther = (logits < logits.diagonal()[:, None]) & negatives
    return loss, farther.sum() / negatives.sum().clamp(min=1)
