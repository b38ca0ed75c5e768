"""Canonical tables, each with the records of the report on its cleaning."""

from collections.abc import Callable
from typing import Any

import polars as pl

from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.ingestion import cleaning, entities
from reclora_kedro.ingestion.cleaning_report import CleaningReport

Cleaned = tuple[pl.DataFrame, list[dict[str, Any]]]

SETTINGS: dict[str, Any] = {
    "interactions": {
        "user_id": "u",
        "item_id": "i",
        "rating": "r",
        "timestamp": "t",
        "timestamp_format": "unix_seconds",
    },
    "items": {
        "item_id": "i",
        "title": "name",
        "missing_title": "Unknown title",
        "trailing_articles": ["The", "A", "Le"],
        "fields": [],
    },
    "users": None,
    "plausible_times": {"first_day": "1970-01-01", "last_day": "1999-12-31", "max_outside": 0.1},
    "rating_min": 1,
    "rating_max": 5,
    "max_ratings_outside": 1,
    "max_missing": 1,
    "max_share_of_one_id": 1,
    "label_threshold": 4,
    "duplicates": "highest_rating",
    "k_core": 0,
}


def clean_interactions(raw: Any, config: Any, engine: EngineConfig = LOCAL) -> Cleaned:
    """The canonical log."""
    return _reported(lambda report: cleaning.clean_interactions(raw, config, report, engine).collect())


def describe_items(raw: Any, log: pl.DataFrame, columns: Any) -> Cleaned:
    """The canonical items."""
    return _reported(lambda report: entities.describe_items(raw, log.lazy(), columns, report))


def add_item_texts(items: pl.DataFrame, raw: Any, columns: Any) -> Cleaned:
    """The canonical items with the texts of a second table."""
    return _reported(lambda report: entities.add_item_texts(items, raw, columns, report))


def describe_users(raw: Any, log: pl.DataFrame, columns: Any) -> Cleaned:
    """The canonical users."""
    return _reported(lambda report: entities.describe_users(raw, log.lazy(), columns, report))


def _reported(clean: Callable[[CleaningReport], pl.DataFrame]) -> Cleaned:
    report = CleaningReport()
    return clean(report), report.records()


def counts(report: list[dict[str, Any]]) -> dict[str, int]:
    """Rows by check, each of which a report names once."""
    assert len({row["check"] for row in report}) == len(report)
    return {row["check"]: row["rows"] for row in report}
