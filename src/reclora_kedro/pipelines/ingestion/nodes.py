"""Node of the ingestion step."""

from typing import Any

import polars as pl

from reclora_kedro.interactions.cleaning import (
    ReportRow,
    add_item_texts,
    clean_interactions,
    describe_items,
    describe_users,
)
from reclora_kedro.interactions.config import IngestionConfig


def build_canonical_tables(
    raw_interactions: Any, raw_items: Any, raw_item_texts: Any, raw_users: Any, config: IngestionConfig
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[ReportRow]]:
    """The canonical log, items and users, and the report on their cleaning.

    One node, so that a fault in any of the raw tables stops the step before it has written anything.
    """
    interactions, log_report = clean_interactions(raw_interactions, config)
    items, items_report = describe_items(raw_items, interactions, config.items)
    items, texts_report = add_item_texts(items, raw_item_texts, config.item_texts)
    users, users_report = describe_users(raw_users, interactions, config.users)
    return interactions, items, users, [*log_report, *items_report, *texts_report, *users_report]
