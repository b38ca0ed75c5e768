"""Nodes of the black_box step."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from kedro_provenance.parameters import reads
from reclora_extras.black_box import asking
from reclora_extras.black_box.asking import BlackBoxConfig
from reclora_extras.black_box.chat_api import ChatApi
from reclora_extras.black_box.hints import MessageWriter, hinted_records
from reclora_extras.black_box.tables import black_box_tables
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.distributed.finished import FinishedShards
from reclora_kedro.evaluation import metrics
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.llm.prompts import PromptConfig

Records = list[dict[str, Any]]


@reads(history=["short"], config=["search.rows", "rows", "history", "nearest", "seed"])
def describe_questions(
    lens: Lens,
    log: InteractionLog,
    learning_questions: pl.DataFrame,
    test_questions: pl.DataFrame,
    history: HistoryConfig,
    config: BlackBoxConfig,
    engine: EngineConfig,
) -> Records:
    """What messages may say of the validation rows that hints are searched on, and of the test rows."""
    questions = asking.draw_questions(learning_questions, test_questions, config)
    return hinted_records(lens, log, questions, asking.window_of(history, config), config.nearest, engine)


@reads(config=["max_characters", "hints", "search.calls", "models", "price", "seed"])
def ask(
    llm: ChatApi,
    kept: FinishedShards,
    records: Records,
    prompt_template: str,
    hint_templates: Mapping[str, Callable[[], str]],
    config: BlackBoxConfig,
    prompt: PromptConfig,
) -> tuple[Records, pl.DataFrame, Records]:
    """The trials of the search for hints; scores of the test rows with the best one; and what these cost."""
    hints = {name: load() for name, load in hint_templates.items()}
    writer = MessageWriter(prompt_template, hints, prompt, config.max_characters)
    return asking.ask(lambda texts, step: llm.ask(texts, prompt, kept, step), records, writer, config)


@reads(config=["beside"])
def evaluate(
    scores: pl.DataFrame,
    black_box_scores: pl.DataFrame,
    test_questions: pl.DataFrame,
    config: BlackBoxConfig,
    bootstrap: Bootstrap,
) -> tuple[Records, Records]:
    """The black box beside models of the scoring step, on the rows that it answered, by their evaluation."""
    together = asking.scores_beside(black_box_scores, scores, test_questions, config.beside)
    return metrics.evaluate_models(together, bootstrap)


def show_results(metrics: Records, comparisons: Records, trials: Records, usage: Records) -> None:
    """Print how the search went, what it all cost, and the results."""
    show(black_box_tables(metrics, comparisons, trials, usage))
