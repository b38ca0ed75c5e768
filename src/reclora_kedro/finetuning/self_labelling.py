"""Self-generated preferences: an adapter goes on learning from pairs of which it says itself what users like more."""

import logging
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.objectives import Examples, ObjectiveConfig
from reclora_kedro.finetuning.processes import fine_tune
from reclora_kedro.finetuning.training import TrainingConfig, assign, copy_of
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet

SMOOTHED_SHARE = 0.1
"""Of a round's labels, the least certain ones."""
SMOOTHING = 0.1
"""How far these are from 0 or 1."""

logger = logging.getLogger(__name__)


def fine_tune_in_rounds(
    model: AnswerModel,
    examples: Examples,
    unlabelled: PromptSet,
    validation: PromptSet,
    config: TrainingConfig,
    checkpoints: CheckpointStore | None = None,
) -> pl.DataFrame:
    """Learn from labelled pairs, then in rounds from self-labelled ones (SPA, Kim et al. 2024, arXiv 2406.04412).

    Each round takes its share of the unlabelled pairs, labels them, see `self_labels`, and learns from them beside the
    model as the round found it. The adapter is left at the best validation AUC of all rounds.

    Args:
        model: a base LLM with a fresh adapter.
        examples: pairs with labels.
        unlabelled: prompts of further pairs, two by two; their labels are what the log says later on, NaN for nothing,
            and only measure how many of the adapter's own it confirms.
        validation: rows to choose the weights by.
        config: training settings, of which `objective` says how many rounds there are.
        checkpoints: where to keep checkpoints, a folder per round; None for nowhere.

    Returns:
        The training logs, see `train_adapter`, one after the other, with the round (0 for the labelled pairs), decided
        (its pairs of which the log shows one item liked, and the other one not) and confirmed (share of these that the
        adapter labelled so).

    Raises:
        FloatingPointError, MemoryError, OSError, ShardError, RuntimeError: see `fine_tune`.
        ValueError: likewise; or there are fewer unlabelled pairs than rounds.
    """
    require_unlabelled(config.objective, len(unlabelled.labels) // 2)
    weights = {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}
    pairs = np.arange(len(unlabelled.labels)).reshape(-1, 2)
    shares = np.array_split(np.arange(len(pairs)), config.objective.rounds)

    def margins(chosen: np.ndarray) -> np.ndarray:
        model.model.eval()
        prompts = unlabelled.take(pairs[chosen].ravel())
        logits = model.all_llm_logits(prompts, config.tokens_per_batch, "score unlabelled pairs")
        values = np.full(len(pairs), np.nan)
        values[chosen] = logits[::2] - logits[1::2]
        return values

    untrained = before = margins(np.arange(len(pairs)))
    logs: list[pl.DataFrame] = []
    best_auc, rows, seconds = -1.0, 0, 0.0
    for number in range(config.objective.rounds + 1):
        told: dict[str, Any] = {"round": number, "decided": None, "confirmed": None}
        if number:
            share, now = shares[number - 1], margins(np.concatenate(shares[number - 1 :]))
            labels = self_labels(now[share], before[share], untrained[share], config.objective.extrapolation)
            prompts = unlabelled.take(pairs[share].ravel())
            examples = Examples(prompts, labels, now[share], config.objective.beta)
            told |= confirmation(labels, prompts.labels.reshape(-1, 2))
            logger.info("round %d: the log confirms %s of %d labels", number, told["confirmed"], told["decided"])
            before = now
        store = checkpoints and CheckpointStore(
            f"{checkpoints.folder}/round-{number}", checkpoints.training, checkpoints.options
        )
        log = fine_tune(model, examples, validation, config, store)
        columns = [pl.lit(value, pl.Float64).alias(name) for name, value in told.items()]
        logs.append(log.with_columns(pl.col("rows") + rows, pl.col("seconds") + seconds, *columns))
        rows, seconds = logs[-1]["rows"][-1], logs[-1]["seconds"][-1]
        auc = log["validation_auc"].fill_null(0).fill_nan(0).to_numpy().max()
        if auc > best_auc:
            best_auc, best = auc, copy_of(weights)
    assign(weights, best)
    return pl.concat(logs)


def require_unlabelled(objective: ObjectiveConfig, pairs: int) -> None:
    """Refuse an objective that is self-generated from fewer unlabelled pairs than it has rounds.

    Raises:
        ValueError: it is.
    """
    if objective.kind == "self_generated" and pairs < objective.rounds:
        raise ValueError(
            f"training.objective is self_generated, in {objective.rounds} rounds, but there are {pairs} unlabelled "
            "pairs: raise history.prompt_rows.unlabelled to at least one pair per round."
        )


def self_labels(now: np.ndarray, before: np.ndarray, untrained: np.ndarray, extrapolation: float) -> np.ndarray:
    """Whether the first item of each pair is liked more, by the sign of the implicit reward, shape (pairs,).

    The reward is that of a model further on the way from the last round's to the present one: its margin is
    ``(1 + extrapolation) now - extrapolation before``, less that of the untrained LLM (SPA, section 4.2). The tenth
    with the smallest rewards is smoothed.

    Args:
        now: margins of the adapter, shape (pairs,).
        before: those of the adapter as the round before found it.
        untrained: those of the LLM as it came.
        extrapolation: how far to go on, at least 0.

    Examples:
        >>> self_labels(np.array([3.0, -2.0] * 5), np.zeros(10), np.zeros(10), 0.5)
        array([1. , 0.1, 1. , 0. , 1. , 0. , 1. , 0. , 1. , 0. ])
    """
    rewards = (1 + extrapolation) * now - extrapolation * before - untrained
    labels = (rewards > 0).astype(np.float64)
    least_certain = np.argsort(np.abs(rewards), kind="stable")[: round(SMOOTHED_SHARE * len(labels))]
    labels[least_certain] = np.abs(labels[least_certain] - SMOOTHING)
    return labels


def confirmation(labels: np.ndarray, later: np.ndarray) -> dict[str, float | None]:
    """How many pairs the log decides, and which share of these it confirms.

    Args:
        labels: above 0.5 where the first item is liked more, shape (pairs,).
        later: 1 for items that are liked later on; else 0, or NaN where the log says nothing; shape (pairs, 2).

    Examples:
        >>> confirmation(np.array([1.0, 0.9, 0.0]), np.array([[1, np.nan], [0, 1], [1, 1]]))
        {'decided': 2, 'confirmed': 0.5}
    """
    liked = later == 1
    decided = liked[:, 0] != liked[:, 1]
    agrees = (labels > 0.5)[decided] == liked[decided, 0]
    return {"decided": int(decided.sum()), "confirmed": float(agrees.mean()) if len(agrees) else None}
