"""Node of the ingestion step."""

from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.interactions.cleaning import (
    ReportRow,
    add_item_texts,
    clean_interactions,
    describe_items,
    describe_users,
)
from reclora_kedro.interactions.config import IngestionConfig
from reclora_kedro.interactions.parts import clean_in_parts


def build_canonical_tables(
    raw_interactions: Any,
    raw_items: Any,
    raw_item_texts: Any,
    raw_users: Any,
    config: IngestionConfig,
    engine: EngineConfig,
) -> tuple[pl.LazyFrame, pl.DataFrame, pl.DataFrame, list[ReportRow]]:
    """The canonical log, items and users, and the report on their cleaning.

    A log that is loaded lazily and is longer than `engine.rows_per_part` is cleaned part by part, unless it has
    starting histories, which need it whole.

    One node, so that a fault in any of the raw tables stops the step before it has written anything.
    """
    in_parts = (
        isinstance(raw_interactions, pl.LazyFrame)
        and config.interactions.click_history is None
        and raw_interactions.select(pl.len()).collect().item() > engine.rows_per_part
    )
    interactions, log_report = (
        clean_in_parts(raw_interactions, config, engine) if in_parts else clean_interactions(raw_interactions, config)
    )
    items, items_report = describe_items(raw_items, interactions, config.items)
    items, texts_report = add_item_texts(items, raw_item_texts, config.item_texts)
    users, users_report = describe_users(raw_users, interactions, config.users)
    return interactions.lazy(), items, users, [*log_report, *items_report, *texts_report, *users_report]
