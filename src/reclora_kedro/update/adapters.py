"""Incremental training of an adapter in an update, and its promotion."""

import numpy as np
import polars as pl

from reclora_kedro.finetuning.config import AdapterContinuationConfig, TrainingConfig
from reclora_kedro.finetuning.continuation import continue_adapter, draw_rows, trained_weights
from reclora_kedro.finetuning.training_log import LOG_SCHEMA
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.history.questions import questions
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet, prompt_set
from reclora_kedro.optimization import assign, copy_of
from reclora_kedro.update.promotion import Decision, Promotion

USES = ("few_shot", "validation", "test")


def update_questions(
    samples: pl.DataFrame, known: pl.DataFrame, config: AdapterContinuationConfig, newest: int | None, seed: int
) -> pl.DataFrame:
    """Draw the questions to train and validate an adapter on, see `draw_rows`, and the newest ones to compare it on.

    The `known` moments (user_index and timestamp), of the current model's log, are not new. Of the test split, as many
    as `newest` are drawn uniformly; None for all.
    """
    test = samples.filter(split="test")
    drawn = test.sample(min(newest or test.height, test.height), seed=seed).sort("row")
    return pl.concat([draw_rows(samples, known, config, seed), questions(drawn, "test")])


def learned_rows(prompts: pl.DataFrame, gate_inputs: GateInputs) -> tuple[PromptSet, np.ndarray, PromptSet]:
    learned = prompts.filter(pl.col("use").is_in(["few_shot", "replay"]))
    few_shot = prompt_set(learned.with_columns(use=pl.lit("few_shot")), "few_shot", gate_inputs)
    return few_shot, (learned["use"] == "few_shot").to_numpy(), prompt_set(prompts, "validation", gate_inputs)


def update_adapter(
    model: AnswerModel,
    prompts: pl.DataFrame,
    gate_inputs: GateInputs,
    config: AdapterContinuationConfig,
    training: TrainingConfig,
    promotion: Promotion,
) -> tuple[pl.DataFrame, Decision]:
    """Train a model's adapter further in place, and keep the result if it is not worse on the newest rows.

    The training log is empty if there is nothing to train or validate on.
    """
    test = prompts.filter(use="test")
    labels = {use: prompts.filter(use=use)["label"].n_unique() for use in USES}
    if not labels["few_shot"] or labels["validation"] < 2 or labels["test"] < 2:
        log = pl.DataFrame(schema={"safeguard": pl.String, **LOG_SCHEMA})
        return log, Decision.undecided(test, "there are no new rows to learn from, or too few to validate on")
    model.model.set_adapter(model.model.active_adapter)  # which lets it train
    weights = trained_weights(model)
    start = copy_of(weights)
    few_shot, is_new, validation = learned_rows(prompts, gate_inputs)
    newest = prompt_set(prompts, "test", gate_inputs)
    model.model.eval()
    current = model.scores(newest, training.tokens_per_batch, "champion")
    log = continue_adapter(model, few_shot, is_new, validation, config, training)
    challenger = model.scores(newest, training.tokens_per_batch, "challenger")
    decision = promotion.decide(test, current, challenger)
    if decision.chosen == "champion":
        assign(weights, start)
    return log, decision
