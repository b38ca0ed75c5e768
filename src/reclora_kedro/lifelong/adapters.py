"""An adapter that goes on with its log: what it learns from, and whether what it learned is taken."""

import polars as pl

from reclora_kedro.adapters.gate_inputs import GateInputs
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.finetuning.continuation import AdapterContinuationConfig, continue_adapter, draw_rows
from reclora_kedro.finetuning.training import LOG_SCHEMA, TrainingConfig, assign, copy_of
from reclora_kedro.histories.questions import questions
from reclora_kedro.lifelong.promotion import Decision, PromotionConfig, decide, undecided
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import prompt_set

USES = ("few_shot", "validation", "test")


def update_questions(
    samples: pl.DataFrame, since: int, config: AdapterContinuationConfig, newest: int | None, seed: int
) -> pl.DataFrame:
    """The questions that an adapter goes on learning from and is chosen by, see `draw_rows`, and newest ones.

    Args:
        samples: of the grown log.
        since: the last second of the champion's log.
        config: how many it learns from.
        newest: how many of the test split, drawn uniformly; None: all.
        seed: of the draws.
    """
    test = samples.filter(split="test")
    drawn = test.sample(min(newest or test.height, test.height), seed=seed).sort("row")
    return pl.concat([draw_rows(samples, since, config, seed), questions(drawn, "test")])


def update_adapter(
    model: AnswerModel,
    prompts: pl.DataFrame,
    gate_inputs: GateInputs,
    config: AdapterContinuationConfig,
    training: TrainingConfig,
    promotion: PromotionConfig,
    bootstrap: Bootstrap,
) -> tuple[pl.DataFrame, Decision]:
    """Train a model's adapter further in place, and leave it so if it is not worse on the newest rows.

    Args:
        model: a base LLM with the champion's adapter.
        prompts: of `update_questions`.
        gate_inputs: of the same questions.
        config: see `continue_adapter`.
        training: likewise.
        promotion: see `decide`.
        bootstrap: likewise.

    Returns:
        The training logs, empty where there is nothing to learn from or to validate on, and the decision.
    """
    test = prompts.filter(use="test")
    labels = {use: prompts.filter(use=use)["label"].n_unique() for use in USES}
    if not labels["few_shot"] or labels["validation"] < 2 or labels["test"] < 2:
        log = pl.DataFrame(schema={"safeguard": pl.String, **LOG_SCHEMA})
        return log, undecided(test, "there are no new rows to learn from, or too few to validate on")
    model.model.set_adapter(model.model.active_adapter)  # which lets it train
    weights = {name: weight for name, weight in model.model.named_parameters() if weight.requires_grad}
    start = copy_of(weights)
    learned = prompts.with_columns(pl.col("use").replace("replay", "few_shot"))
    few_shot, validation, newest = (prompt_set(learned, use, gate_inputs) for use in USES)
    is_new = prompts.filter(learned["use"] == "few_shot")["use"].to_numpy() == "few_shot"
    model.model.eval()
    champion = model.scores(newest, training.tokens_per_batch, "champion")
    log = continue_adapter(model, few_shot, is_new, validation, config, training)
    challenger = model.scores(newest, training.tokens_per_batch, "challenger")
    decision = decide(test, champion, challenger, promotion, bootstrap)
    if decision["chosen"] == "champion":
        assign(weights, start)
    return log, decision
