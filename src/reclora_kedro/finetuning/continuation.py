"""An adapter goes on learning from few new rows, with safeguards against forgetting what it knows."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field
from sklearn.metrics import roc_auc_score
from torch import Tensor

from kedro_provenance.parameters import Block
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.processes import fine_tune
from reclora_kedro.finetuning.training import LOG_SCHEMA, TrainingConfig, assign, copy_of
from reclora_kedro.histories.questions import questions
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.parameters import Count, EachOnce, LearningRate, NonNegative, Share

START = "start"
"""In a log of `continue_adapter`, the adapter as it was."""


class AdapterContinuationConfig(Block):
    """How a trained adapter goes on learning."""

    few_shot: Count
    replay: Share
    validation: Count
    learning_rate: LearningRate
    safeguard: Annotated[tuple[Literal["none", "replay", "proximal", "short_term"], ...], Field(min_length=1), EachOnce]
    proximal_weight: NonNegative


def draw_rows(samples: pl.DataFrame, since: int, config: AdapterContinuationConfig, seed: int) -> pl.DataFrame:
    """The questions that an adapter goes on learning from, drawn uniformly, and those that choose its weights.

    Of the use few_shot are training samples later than the second `since`, and of the use replay old ones. There are as
    many as asked for, or as the splits have.

    Examples:
        >>> columns = ("user_index", "item_index", "history_end", "timestamp")
        >>> samples = pl.DataFrame({name: range(9) for name in ("row", *columns)}).with_columns(
        ...     label=pl.col("row") % 2, split=pl.Series(["train"] * 7 + ["validation"] * 2)
        ... )
        >>> config = AdapterContinuationConfig.model_construct(few_shot=3, replay=0.25, validation=9)
        >>> draw_rows(samples, 3, config, seed=0).select("row", "use").rows()
        [(4, 'few_shot'), (5, 'few_shot'), (6, 'few_shot'), (3, 'replay'), (7, 'validation'), (8, 'validation')]
    """
    random = np.random.default_rng(seed)
    is_new = pl.col("timestamp") > since
    train = samples.filter(split="train")
    new = train.filter(is_new)
    sizes = {"new": min(new.height, config.few_shot)}
    sizes["old"] = round(sizes["new"] * config.replay / (1 - config.replay))
    parts = (
        (new, "few_shot", sizes["new"]),
        (train.filter(~is_new), "replay", sizes["old"]),
        (samples.filter(split="validation"), "validation", config.validation),
    )
    drawn = [questions(part[random.permutation(part.height)[:size]], use) for part, use, size in parts]
    return pl.concat(drawn).sort("use", "row")


def continue_adapter(
    model: AnswerModel,
    few_shot: PromptSet,
    is_new: np.ndarray,
    validation: PromptSet,
    config: AdapterContinuationConfig,
    training: TrainingConfig,
) -> pl.DataFrame:
    """Train a model's adapter further in place, by each safeguard, and leave it at the best validation AUC.

    The adapter stays as it is if no safeguard makes it better. For arguments and errors see `continuations`.

    Returns:
        The training logs, one after the other.
    """
    logs: list[pl.DataFrame] = []
    best: dict[str, Tensor] = {}
    best_auc = -1.0
    for log in continuations(model, few_shot, is_new, validation, config, training):
        logs.append(log)
        if (auc := log["validation_auc"].fill_null(0).to_numpy().max()) > best_auc:
            best_auc, best = auc, copy_of(trained_weights(model))
    assign(trained_weights(model), best)
    model.model.requires_grad_(False).eval()
    return pl.concat(logs, how="diagonal").select("safeguard", *LOG_SCHEMA, pl.exclude("safeguard", *LOG_SCHEMA))


def continuations(
    model: AnswerModel,
    few_shot: PromptSet,
    is_new: np.ndarray,
    validation: PromptSet,
    config: AdapterContinuationConfig,
    training: TrainingConfig,
) -> Iterator[pl.DataFrame]:
    """The adapter as it is, and what each safeguard makes of it: while one is looked at, the model has its weights.

    With `none` it learns from the new rows alone, with `replay` from old ones, too, and with `proximal` from the new
    rows while `proximal_term` holds its weights where they were (PESO). With `short_term`, what `none` makes of it is a
    short-term LoRA, and the weights are the mean of its own and the long-term LoRA's, the adapter as it was (LSAT by
    task arithmetic: Shi et al. 2023, arXiv 2312.15599). There, the short-term LoRA has a start of its own; here it
    starts from the long-term one, since a mean of weights does what both do only where these are near each other.

    Args:
        model: a base LLM with a trained adapter; it may be frozen.
        few_shot: rows to learn from, new and old ones.
        is_new: which of them are new, shape (rows,).
        validation: rows to choose the weights by.
        config: the safeguards that are tried, and their settings.
        training: settings of the adapter's training; its learning rate is that of the continuation.

    Yields:
        The training log of each, see `train_adapter`, with a first column `safeguard`; of the adapter as it was, and of
        `short_term`, a row on its validation.

    Raises:
        FloatingPointError, MemoryError, OSError, ShardError, RuntimeError: see `fine_tune`.
        ValueError: likewise, or see `require_further_training`.
    """
    require_further_training(training)
    model.model.set_adapter(model.model.active_adapter)  # which lets it train
    weights = trained_weights(model)
    training = training.model_copy(update={"learning_rate": config.learning_rate})
    new, start = few_shot.take(np.flatnonzero(is_new)), copy_of(weights)
    yield _validated(model, validation, training, START)
    short_term: dict[str, Tensor] = {}
    for safeguard in config.safeguard:
        assign(weights, start)
        if safeguard != "short_term" or not short_term:
            held = config.proximal_weight if safeguard == "proximal" else 0.0
            rows = few_shot if safeguard == "replay" else new
            log = fine_tune(model, Clicks(rows), validation, training, proximal_weight=held)
            if safeguard in ("none", "short_term"):
                short_term = copy_of(weights)
        if safeguard == "short_term":
            assign(weights, {name: (value + short_term[name]) / 2 for name, value in start.items()})
            log = _validated(model, validation, training, safeguard)
        yield log.select(pl.lit(safeguard).alias("safeguard"), pl.exclude("safeguard"))


def require_further_training(training: TrainingConfig) -> None:
    """Refuse to train an adapter further whose gradients allow one training alone.

    Raises:
        ValueError: it is such an adapter.
    """
    if reason := training.gradient_maker.trains_once:
        raise ValueError(
            f"This adapter must not be trained further, as {reason}: let update.variant name another variant, or train "
            "this one again with kedro run --pipelines finetuning."
        )


def trained_weights(model: AnswerModel) -> dict[str, Tensor]:
    """The weights of a model's adapter that train, by name."""
    return {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}


def _validated(model: AnswerModel, validation: PromptSet, training: TrainingConfig, safeguard: str) -> pl.DataFrame:
    """The row of a training log about a model as it is."""
    model.model.eval()
    scores = model.scores(validation, training.tokens_per_batch, "validate")
    auc = float(roc_auc_score(validation.labels, scores))
    row = {"safeguard": safeguard, "rows": 0, "validation_auc": auc, "seconds": 0.0}
    return pl.DataFrame([row], schema={"safeguard": pl.String, **LOG_SCHEMA, "seconds": pl.Float64})
