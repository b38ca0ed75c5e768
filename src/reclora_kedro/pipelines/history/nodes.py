"""Nodes of the history pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history import checks, log_builder
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.questions import LEARNING, draw_questions
from reclora_kedro.ingestion.cleaning_report import CheckedRows, CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.llm import item_vectors
from reclora_kedro.llm.item_vectors import Arrays
from reclora_kedro.terminal import cleaning_table, show

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel
    from reclora_kedro.llm.sentence_encoder import SentenceEncoder


@reads(
    history=["seed", "min_history", "ties", "shared_clock", "rating_levels", "split", "negatives", "prompt_rows.unit"],
    ingestion=["interactions.columns"],
)
def build_log(
    interactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    history: HistoryConfig,
    ingestion: IngestionConfig,
    engine: EngineConfig,
) -> tuple[InteractionLog | LogInFiles, list[CheckedRows]]:
    """Build the log with each user's sequence and the split of the samples; return it with a report."""
    report = CleaningReport()
    schema = ingestion.interactions.events
    log = log_builder.build_log(interactions, items, users, history, engine, report, schema=schema)
    return log, report.records()


@reads(history=["negatives", "seed"])
def check_negatives(log_without_embeddings: InteractionLog, history: HistoryConfig) -> Records:
    """Check whether single numbers tell drawn negatives from likes; empty without drawn negatives."""
    drawn = history.negatives.kind != "none"
    return checks.check_negatives(log_without_embeddings, history.seed) if drawn else []


@reads(history=[*LEARNING, "seed"])
def draw_learning_questions(log_without_embeddings: InteractionLog, history: HistoryConfig) -> pl.DataFrame:
    """Draw the few-shot rows and the validation rows uniformly."""
    uses = ("few_shot", "validation")
    return draw_questions(log_without_embeddings.samples, uses, history.prompt_rows, history.seed)


@reads(history=["prompt_rows.unit", "prompt_rows.test", "seed"])
def draw_test_questions(log_without_embeddings: InteractionLog, history: HistoryConfig) -> pl.DataFrame:
    """Draw the samples to score."""
    return draw_questions(log_without_embeddings.samples, ("test",), history.prompt_rows, history.seed)


@reads(history=["item_embedding", "seed"])
def embed_items(
    items: pl.DataFrame,
    history: HistoryConfig,
    engine: EngineConfig,
    *inputs: LanguageModel | SentenceEncoder | InteractionLog,
) -> Arrays:
    """Embed the items with each encoder; return their vectors and the fitted arrays for new items."""
    config = history.item_embedding
    encoders = dict(zip(config.with_input, inputs, strict=True))
    return item_vectors.embed_items(describe_items(items), config, encoders, history.seed, engine)


def assemble_log(log_without_embeddings: InteractionLog, item_embeddings: Arrays) -> InteractionLog:
    """Add the item vectors to the log."""
    return log_without_embeddings.with_embeddings(item_embeddings["embeddings"], item_embeddings["encoder_widths"])


@reads(history=["item_embedding", "seed"])
def check_retrieval(log: InteractionLog, history: HistoryConfig) -> Records:
    """Measure how often items with similar vectors belong together."""
    encoders = ", ".join(history.item_embedding.encoders)
    return [{"encoders": encoders, **record} for record in checks.check_retrieval(log, history.seed)]


def show_history(history_report: list[CheckedRows]) -> None:
    """Print what became of the interactions."""
    show(cleaning_table("Samples", history_report))
