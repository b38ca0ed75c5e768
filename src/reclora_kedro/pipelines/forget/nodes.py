"""Nodes of the forget pipeline."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl

from kedro_provenance.files.digests import digest
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.terminal import show
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.log_builder import LogInFiles
from reclora_kedro.interactions.config import IngestionConfig
from reclora_kedro.lifelong import forgetting, remains
from reclora_kedro.lifelong.forgetting import ForgetConfig, Tables
from reclora_kedro.lifelong.remains import Archive, Forgotten

Arrays = dict[str, np.ndarray]
TABLES = ("interactions", "items", "users", "log", "item_embeddings")
"""Entries, besides weights, whose versions a champion names."""


def forget_in_tables(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    archive: Archive,
    forget: ForgetConfig,
    ingestion: IngestionConfig,
) -> Tables:
    """The canonical tables without the users, if anything that is stored has these."""
    versions = archive.versions()
    forgetting.require_users(forget.users, remains.stored_users(versions), remains.forgotten_before(versions))
    return forgetting.forget_in_tables(Tables(interactions, items, users), forget.users, ingestion)


def forget_in_log(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    before: InteractionLog,
    history: HistoryConfig,
    engine: EngineConfig,
) -> InteractionLog | LogInFiles:
    """The log without the users."""
    return forgetting.forget_in_log(Tables(interactions, items, users), before, history, engine)


def keep_item_vectors(
    item_embeddings: Arrays, champion_item_embeddings: Arrays, items: pl.DataFrame, left: InteractionLog
) -> tuple[Arrays, InteractionLog]:
    """The vectors of the items that are left, and the log with them."""
    ids = items["item_id"], left.items["item_id"]
    vectors = forgetting.keep_item_vectors(item_embeddings, champion_item_embeddings, *ids)
    return vectors, left.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])


def keep_adapter(adapter: str) -> str:
    """The folder of the adapter as it is, for the log and the lens that are left."""
    return adapter


def name_champion(
    champion_history: list[dict[str, Any]],
    versions_in_use: Callable[[Iterable[str]], dict[str, str]],
    erase_from_journal: Callable[[Iterable[Any]], int],
    forget: ForgetConfig,
    **weights: Any,
) -> dict[str, Any]:
    """The champion with what this run has made without the users, whose events the service's journal loses before."""
    events = erase_from_journal(forget.users)
    made = versions_in_use([*TABLES, *weights])
    decision = {"chosen": "champion", "reason": "users were forgotten", "erased_events_of_the_journal": events}
    versions = dict(sorted({**champion_history[0]["versions"], **made}.items()))
    return {"versions": versions, "decision": decision, "made_by": made["log"]}


def find_remains(
    archive: Archive,
    champion: dict[str, Any],
    champion_history: list[dict[str, Any]],
    items: pl.DataFrame,
    forget: ForgetConfig,
) -> dict[str, Any]:
    """Where rows of the users, or traces of them in weights, still are, once the champion is another one."""
    versions = archive.versions()
    left = remains.find_remains(versions, Forgotten.of(forget.users, versions, items["item_id"]))
    erased = [*left.rows, *(left.traces if forget.retrain else [])]
    old = remains.champions_of(champion_history, erased, versions)
    return {
        "forgotten": sorted(digest(str(user)) for user in forget.users),
        "rows": [remains.described(version) for version in (*old, *left.rows)],
        "traces": [remains.described(version) for version in left.traces],
    }


def erase_remains(
    archive: Archive, champion: dict[str, Any], forget_report: dict[str, Any], forget: ForgetConfig
) -> None:
    """Erase, on request, the versions in the report that hold rows of the users; weights, if others were trained."""
    left = [*forget_report["rows"], *(forget_report["traces"] if forget.retrain else [])]
    if forget.erase:
        archive.erase([each["address"] for each in left], champion["versions"])


def show_remains(forget_report: dict[str, Any], forget: ForgetConfig) -> None:
    """Print which entries' versions still know the users, and what becomes of them."""
    show(remains.remains_table(forget_report, erase=forget.erase, retrain=forget.retrain))
