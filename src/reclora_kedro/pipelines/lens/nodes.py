"""Nodes of the lens step."""

from typing import Any

import polars as pl
from torch import Tensor

from kedro_provenance.parameters import reads
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens import crossfit, metrics, states
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.crossfit import FewShotConfig
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.retrievers.base import Retriever
from reclora_kedro.retrievers.negatives import with_retrieved_negatives


def train_lens(
    log: InteractionLog,
    config: LensConfig,
    engine: EngineConfig,
    learning_questions: pl.DataFrame | None = None,
    retriever: Retriever | None = None,
) -> tuple[Lens, pl.DataFrame]:
    """The trained lens and its training log.

    It may learn from the few-shot rows alone, which then are in the questions; with a retriever, from negatives that
    this finds.
    """
    return fit_lens(_learned(log, config, learning_questions, retriever), config, engine)


def measure_lens(lens: Lens, log: InteractionLog, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """What the lens reaches on the whole test split, and the likeness of items alone."""
    return metrics.measure_lens(lens, log, bootstrap)


@reads(few_shot=["lens_states", "folds"])
def compute_learning_states(
    lens: Lens,
    log: InteractionLog,
    learning_questions: pl.DataFrame,
    lens_training_log: pl.DataFrame,
    few_shot: FewShotConfig,
    engine: EngineConfig,
    retriever: Retriever | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """States of the rows that the LLM learns from, and how sure the lens is of the few-shot ones."""
    log = _learned(log, lens.config, learning_questions, retriever)
    return crossfit.learning_states(lens, log, learning_questions, lens_training_log, few_shot, engine)


def _learned(
    log: InteractionLog, config: LensConfig, learning_questions: pl.DataFrame | None, retriever: Retriever | None
) -> InteractionLog:
    """The log with the samples that the lens learns from."""
    if config.training_rows == "few_shot":
        assert learning_questions is not None  # the pipeline gives them
        log = log.with_training_rows(learning_questions.filter(use="few_shot")["row"].to_numpy())
    if retriever is None:
        return log
    return with_retrieved_negatives(log, retriever, config.retrieved_negatives, config.seed)


def compute_test_states(
    lens: Lens, log: InteractionLog, test_questions: pl.DataFrame, engine: EngineConfig
) -> tuple[dict[str, Tensor], pl.DataFrame]:
    """States and scores of the test rows by the lens."""
    test_states = states.lens_states(lens, log, test_questions, engine)
    return test_states, test_questions.select("row", score=pl.Series(states.lens_scores(test_states)))
