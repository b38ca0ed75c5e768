"""Nodes of the lens step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.config import LensConfig

if TYPE_CHECKING:
    from torch import Tensor

    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.base import Lens


def train_lens(
    log: InteractionLog,
    config: LensConfig,
    engine: EngineConfig,
    learning_questions: pl.DataFrame | None = None,
    retriever: Retriever | None = None,
) -> tuple[Lens, pl.DataFrame]:
    """Train the lens; return it with its training log.

    It may be trained on the few-shot rows among `learning_questions` only, and on negatives that a retriever proposes.
    """
    from reclora_kedro.candidates.next_item.reader import with_retrieved_negatives
    from reclora_kedro.lens.training import fit_lens

    if config.training_rows == "few_shot":
        assert learning_questions is not None  # the pipeline gives them
        log = log.with_training_rows(learning_questions.filter(use="few_shot")["row"].to_numpy())
    if retriever is not None:
        log = with_retrieved_negatives(log, retriever, config.retrieved_negatives, config.seed)
    return fit_lens(log, config, engine)


def compute_learning_states(
    lens: Lens, log: InteractionLog, learning_questions: pl.DataFrame, engine: EngineConfig
) -> dict[str, Tensor]:
    """Compute the lens states of the rows that the LLM learns from."""
    from reclora_kedro.lens import states

    return states.lens_states(lens, log, learning_questions, engine)


def compute_test_states(
    lens: Lens, log: InteractionLog, test_questions: pl.DataFrame, engine: EngineConfig
) -> tuple[dict[str, Tensor], pl.DataFrame]:
    """Compute the lens states and scores of the test rows."""
    from reclora_kedro.lens import states

    test_states = states.lens_states(lens, log, test_questions, engine)
    return test_states, test_questions.select("row", score=pl.Series(states.lens_scores(test_states)))
