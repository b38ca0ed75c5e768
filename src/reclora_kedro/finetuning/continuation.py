"""Incremental training of an adapter on new rows, with safeguards against forgetting."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score
from torch import Tensor

from reclora_kedro.finetuning.config import AdapterContinuationConfig, TrainingConfig
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import fine_tune
from reclora_kedro.finetuning.training_log import LOG_SCHEMA
from reclora_kedro.history.questions import questions
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.optimization import assign, copy_of

PROXIMAL_WEIGHT = 1.0  # of the divergence beside the loss, with the safeguard `proximal`
START = "start"  # value of `safeguard` in training logs for the adapter before any further training


def draw_rows(samples: pl.DataFrame, known: pl.DataFrame, config: AdapterContinuationConfig, seed: int) -> pl.DataFrame:
    """Draw the questions to train an adapter on, uniformly, and those to validate it on.

    Use few_shot has training samples of other moments (user_index and timestamp) than the `known` ones, use replay has
    those of known ones, and use validation validation samples: as many as `config` says, or as the splits have.

    Examples:
        >>> columns = ("user_index", "item_index", "history_end", "timestamp")
        >>> samples = pl.DataFrame({name: range(9) for name in ("row", *columns)}).with_columns(
        ...     label=pl.col("row") % 2, split=pl.Series(["train"] * 7 + ["validation"] * 2)
        ... )
        >>> config = AdapterContinuationConfig.model_construct(few_shot=3).model_copy(update={"replay": 0.25})
        >>> known = samples.head(4).select("user_index", "timestamp")
        >>> draw_rows(samples, known, config, seed=0).select("row", "use").rows()
        [(4, 'few_shot'), (5, 'few_shot'), (6, 'few_shot'), (3, 'replay'), (7, 'validation'), (8, 'validation')]
    """
    random = np.random.default_rng(seed)
    train, moment = samples.filter(split="train"), ["user_index", "timestamp"]
    new, old = (train.join(known, on=moment, how=how, maintain_order="left") for how in ("anti", "semi"))
    sizes = {"new": min(new.height, config.few_shot)}
    sizes["old"] = round(sizes["new"] * config.replay / (1 - config.replay))
    parts = (
        (new, "few_shot", sizes["new"]),
        (old, "replay", sizes["old"]),
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
    """Train a model's adapter in place with each safeguard, see `continuations`, and return all training logs.

    The best weights by validation AUC are kept, possibly those of the unchanged adapter.
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
    """Train an adapter with each safeguard; while a log is yielded, the model has the weights that it describes.

    Safeguard `none` trains on the new rows only, `replay` on old ones too, and `proximal` on the new rows with
    `proximal_term` as a penalty (PESO). `short_term` averages the weights of `none`, the short-term LoRA, with those of
    the unchanged adapter, the long-term LoRA (LSAT by task arithmetic: Shi et al. 2023, arXiv 2312.15599). The paper
    initialises the short-term LoRA afresh; here it starts from the long-term one, since averaging weights combines two
    models only where their weights are near each other.

    Of the few-shot rows, `is_new` tells the new ones, shape (rows,); `training` has the settings of the adapter's
    training, but for the learning rate. The yielded logs are those of `train_adapter` with a first column `safeguard`;
    the unchanged adapter and `short_term` have one row, their validation. Errors are those of `fine_tune` and
    `require_further_training`.
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
            held = PROXIMAL_WEIGHT if safeguard == "proximal" else 0.0
            rows = few_shot if safeguard == "replay" else new
            log = fine_tune(model, Clicks(rows), validation, training, proximal_weight=held)
            if safeguard in ("none", "short_term"):
                short_term = copy_of(weights)
        if safeguard == "short_term":
            assign(weights, {name: (value + short_term[name]) / 2 for name, value in start.items()})
            log = _validated(model, validation, training, safeguard)
        yield log.select(pl.lit(safeguard).alias("safeguard"), pl.exclude("safeguard"))


def require_further_training(training: TrainingConfig) -> None:
    """Raise ValueError for an adapter that was trained with privacy."""
    if training.privacy.is_on:
        raise ValueError(
            "This adapter must not be trained further, because training.privacy accounts for only one training: set "
            "update.variant to another variant, or train this one again with kedro run --pipelines finetuning."
        )


def trained_weights(model: AnswerModel) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}


def _validated(model: AnswerModel, validation: PromptSet, training: TrainingConfig, safeguard: str) -> pl.DataFrame:
    """Validate a model without training it; return a training log of one row."""
    model.model.eval()
    scores = model.scores(validation, training.tokens_per_batch, "validate")
    auc = float(roc_auc_score(validation.labels, scores))
    row = {"safeguard": safeguard, "rows": 0, "validation_auc": auc, "seconds": 0.0}
    return pl.DataFrame([row], schema={"safeguard": pl.String, **LOG_SCHEMA, "seconds": pl.Float64})
