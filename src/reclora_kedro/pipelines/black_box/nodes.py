"""Nodes of the black_box step."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.distributed.finished import FinishedShards
from reclora_kedro.evaluation import metrics, report
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.llm.chat_api import ChatApi
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.parameters import reads
from reclora_kedro.scoring import black_box
from reclora_kedro.scoring.black_box import BlackBoxConfig
from reclora_kedro.scoring.hints import MessageWriter, hinted_records

Records = list[dict[str, Any]]
Texts = Mapping[str, Callable[[], str]]


@reads(config=["search.rows", "rows", "seed"])
def draw_questions(
    learning_questions: pl.DataFrame, test_questions: pl.DataFrame, config: BlackBoxConfig
) -> pl.DataFrame:
    """The validation rows that hints are searched on, and the test rows."""
    validation = learning_questions.filter(use="validation")
    return pl.concat(
        [
            black_box.draw_rows(validation, config.search.rows, "search.rows", config.seed),
            black_box.draw_rows(test_questions, config.rows, "rows", config.seed),
        ]
    )


@reads(history=["short"], config=["history", "nearest"])
def describe_questions(
    lens: Lens,
    log: InteractionLog,
    questions: pl.DataFrame,
    history: HistoryConfig,
    config: BlackBoxConfig,
    engine: EngineConfig,
) -> Records:
    """What messages may say of each question.

    Raises:
        ValueError: there is no history of that name.
    """
    window = history.short.get(config.history)
    if window is None:
        raise ValueError(
            f"black_box.history is {config.history!r}, but history.short names "
            f"{', '.join(name for name, each in history.short.items() if each)}: choose one of these."
        )
    return hinted_records(lens, log, questions, window, config.nearest, engine)


@reads(config=["max_characters", "hints", "search", "price", "seed"])
def search_hints(
    llm: ChatApi,
    kept: FinishedShards,
    records: Records,
    prompt_template: str,
    hint_templates: Texts,
    config: BlackBoxConfig,
    prompt: PromptConfig,
) -> tuple[dict[str, Any], Records]:
    """The best options of the hints, and all that were tried."""
    validation = [record for record in records if record["use"] == "validation"]
    writer = message_writer(prompt_template, hint_templates, prompt, config)
    return black_box.search_hints(asking(llm, kept, prompt), validation, writer, config)


@reads(config=["max_characters", "models", "price", "seed"])
def answer_questions(
    llm: ChatApi,
    kept: FinishedShards,
    records: Records,
    prompt_template: str,
    hint_templates: Texts,
    hint: dict[str, Any],
    config: BlackBoxConfig,
    prompt: PromptConfig,
) -> tuple[pl.DataFrame, Records]:
    """Scores of the test rows, and what they cost."""
    test = [record for record in records if record["use"] == "test"]
    writer = message_writer(prompt_template, hint_templates, prompt, config)
    return black_box.answer_questions(asking(llm, kept, prompt), test, writer, hint, config)


def asking(llm: ChatApi, kept: FinishedShards, prompt: PromptConfig) -> black_box.Ask:
    """A function that asks the black box what was not answered before."""
    return lambda messages, step: llm.ask(messages, prompt, kept, step)


def message_writer(
    prompt_template: str, hint_templates: Texts, prompt: PromptConfig, config: BlackBoxConfig
) -> MessageWriter:
    """The writer of messages by these templates."""
    texts = {name: load() for name, load in hint_templates.items()}
    return MessageWriter(prompt_template, texts, prompt, config.max_characters)


@reads(config=["beside"])
def evaluate(
    scores: pl.DataFrame,
    black_box_scores: pl.DataFrame,
    test_questions: pl.DataFrame,
    config: BlackBoxConfig,
    bootstrap: Bootstrap,
) -> tuple[Records, Records]:
    """The black box beside models of the scoring step, on the rows that it answered, by their evaluation."""
    return metrics.evaluate_models(
        black_box.scores_beside(black_box_scores, scores, test_questions, config.beside), bootstrap
    )


def show_results(metrics: Records, comparisons: Records, trials: Records, usage: Records) -> None:
    """Print how the search went, what it all cost, and the results."""
    show(report.black_box_tables(metrics, comparisons, trials, usage))
