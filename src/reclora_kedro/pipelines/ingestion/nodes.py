"""Nodes of the ingestion step."""

from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.ingestion.cleaning import clean_interactions
from reclora_kedro.ingestion.cleaning_report import CheckedRows, CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import add_item_texts, describe_items, describe_users
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.terminal import cleaning_table, show


def build_canonical_tables(
    raw_interactions: Any,
    raw_items: Any,
    raw_item_texts: Any,
    raw_users: Any,
    config: IngestionConfig,
    engine: EngineConfig,
    users_to_drop: pl.DataFrame | None = None,
) -> tuple[pl.LazyFrame, pl.DataFrame, pl.DataFrame, list[CheckedRows]]:
    """Return the canonical log, items and users, and the report on their cleaning.

    One node, so that a fault in any of the raw tables stops the step before anything is written.
    """
    report = CleaningReport()
    interactions = clean_interactions(
        raw_interactions, config, report, engine, ForgottenUsers.from_table(users_to_drop)
    )
    items = describe_items(raw_items, interactions, config.items, report)
    items = add_item_texts(items, raw_item_texts, config.item_texts, report)
    users = describe_users(raw_users, interactions, config.users, report)
    return interactions, items, users, report.records()


def show_ingestion(ingestion_report: list[CheckedRows]) -> None:
    """Print what became of the raw tables."""
    show(cleaning_table("Raw tables", ingestion_report))
