"""Nodes of the black_box step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Group

from kedro_provenance.parameters import reads
from reclora_extras.black_box.chat_api import ChatApi
from reclora_extras.black_box.config import BlackBoxConfig
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation import formats, metrics
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Comparison, ModelMetrics, Records
from reclora_kedro.evaluation.report import results_tables
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.terminal import show, text_table

if TYPE_CHECKING:
    from reclora_extras.black_box.hints import HintedQuestion, MessageWriter
    from reclora_kedro.distributed.checkpoints import FinishedShards
    from reclora_kedro.lens.base import Lens


@reads(history=["short"], config=["search.rows", "rows", "history", "seed"])
def describe_questions(
    lens: Lens,
    log: InteractionLog,
    learning_questions: pl.DataFrame,
    test_questions: pl.DataFrame,
    history: HistoryConfig,
    config: BlackBoxConfig,
    engine: EngineConfig,
) -> Records:
    """Return records for messages, of validation and test rows."""
    from reclora_extras.black_box import asking
    from reclora_extras.black_box.hints import hinted_records

    questions = asking.draw_questions(learning_questions, test_questions, config)
    return hinted_records(lens, log, questions, asking.window_of(history, config), engine)


def message_writer(
    template: str, hint_templates: Mapping[str, Callable[[], str]], config: BlackBoxConfig, prompt: PromptConfig
) -> MessageWriter:
    """Return the writer of messages with these hints."""
    from reclora_extras.black_box.hints import MessageWriter

    hints = {name: load() for name, load in hint_templates.items()}
    return MessageWriter(template, hints, prompt, config.max_characters)


@reads(config=["max_characters", "hints", "search.calls", "price", "seed"])
def ask(
    llm: ChatApi,
    kept: FinishedShards,
    records: Sequence[HintedQuestion],
    prompt_template: str,
    hint_templates: Mapping[str, Callable[[], str]],
    config: BlackBoxConfig,
    prompt: PromptConfig,
) -> tuple[Records, pl.DataFrame, Records]:
    """Search hints, and score the test rows with the best ones; return trials, scores and costs."""
    from reclora_extras.black_box import asking

    writer = message_writer(prompt_template, hint_templates, config, prompt)
    return asking.ask(partial(llm.ask, config=prompt, kept=kept), records, writer, config)


@reads(config=["beside"])
def evaluate(
    black_box_scores: pl.DataFrame,
    scores: pl.DataFrame,
    test_questions: pl.DataFrame,
    config: BlackBoxConfig,
    bootstrap: Bootstrap,
) -> tuple[list[ModelMetrics], list[Comparison]]:
    """Compare the black box with models of the scoring step on its rows."""
    from reclora_extras.black_box import asking

    together = asking.scores_beside(black_box_scores, scores, test_questions, config.beside)
    return metrics.evaluate_models(together, bootstrap)


def show_results(metrics: list[ModelMetrics], comparisons: list[Comparison], trials: Records, usage: Records) -> None:
    """Print the trials of the search, the costs, and the results."""
    show(black_box_tables(metrics, comparisons, trials, usage))


def black_box_tables(
    metrics: list[ModelMetrics], comparisons: list[Comparison], trials: Records, usage: Records
) -> Group:
    """The trials of the search for hints, what each model's answers took, and the results."""
    options = [name for name in trials[0] if name not in ("trial", "auc", *usage[0])]
    tokens_used = {"calls": (formats.count, "calls"), "prompt tokens": (formats.count, "prompt_tokens")}
    costs = {
        "calls": ("{:,}\nof {:,}".format, "calls", "requests"),
        "retries": (formats.count, "retries"),
        "by text": (formats.count, "by_text"),
        "unread": (formats.count, "unreadable"),
        "tokens": ("{:,}\n+ {:,}".format, "prompt_tokens", "completion_tokens"),
        "price": ("{:.2f}".format, "price"),
    }
    best = max(trials, key=itemgetter("auc"))
    named = {name: (str, name) for name in ("trial", *options)}
    title = f"Hints on validation rows: those of trial {best['trial']} are taken"
    searched = text_table(title, trials, named, {"AUC": (formats.metric, "auc"), **tokens_used})
    title = "Answers on test rows; calls are those that were not kept from before"
    answered = text_table(title, usage, {"model": (str, "model")}, costs)
    return Group(searched, answered, results_tables(metrics, comparisons, []))
