"""Nodes of the forget pipeline."""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from kedro_provenance.archive import Archive
from kedro_provenance.erasure import described
from reclora_kedro.current_model import TABLES, CurrentModel, ModelInHistory
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.records import Record
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.questions import draw_questions
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.llm.item_vectors import Arrays
from reclora_kedro.terminal import show
from reclora_kedro.update import forgetting, remains
from reclora_kedro.update.config import ForgetConfig
from reclora_kedro.update.forgetting import Tables
from reclora_kedro.update.promotion import FORGOTTEN
from reclora_kedro.update.remains import ForgetReport, Forgotten


def forget_in_tables_and_log(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    archive: Archive,
    journal: pl.DataFrame,
    users_to_drop: pl.DataFrame,
    before: InteractionLog,
    forget: ForgetConfig,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    engine: EngineConfig,
) -> tuple[pl.LazyFrame, pl.DataFrame, pl.DataFrame, InteractionLog | LogInFiles]:
    """Remove the users from the canonical tables and the log.

    One node, so that a log that cannot be split, or is too short to train on again, is refused before anything is
    written.
    """
    stored = remains.stored_users(archive.versions(), journal)
    forgetting.require_users(forget.users, stored, ForgottenUsers.from_table(users_to_drop), show)
    tables = forgetting.forget_in_tables(Tables(interactions, items, users), forget.users, ingestion)
    log = forgetting.forget_in_log(tables, before, history, engine)
    if forget.retrain and isinstance(log, InteractionLog) and log.samples["label"].n_unique() > 1:
        draw_questions(log.samples, ("few_shot", "validation"), history.prompt_rows, history.seed)
    return *tables, log


def remember_users(users_to_drop: pl.DataFrame, forget: ForgetConfig, users: pl.DataFrame) -> Record:
    """Return the users whose rows are dropped from now on; `users` puts this node after their removal."""
    return ForgottenUsers.from_table(users_to_drop).with_users(forget.users).to_json()


def forget_in_quarantine(
    withheld_interactions: pl.DataFrame, forget: ForgetConfig, users: pl.DataFrame
) -> pl.DataFrame:
    """Return the other users' interactions that updates keep out; `users` puts this node after the users' removal."""
    return withheld_interactions.filter(~forgetting.of_users(forget.users))


def keep_item_vectors(
    item_embeddings: Arrays, current_item_embeddings: Arrays, items: pl.DataFrame, left: pl.DataFrame
) -> Arrays:
    """Return the vectors of the remaining items, which are made from no user's rows."""
    return forgetting.keep_item_vectors(item_embeddings, current_item_embeddings, items["item_id"], left["item_id"])


def add_item_vectors(log_without_embeddings: InteractionLog, item_embeddings: Arrays) -> InteractionLog:
    """Return the remaining log with the vectors of its items."""
    return log_without_embeddings.with_embeddings(item_embeddings["embeddings"], item_embeddings["encoder_widths"])


def keep_adapter(adapter: str) -> str:
    """Return the folder of the adapter unchanged, for the remaining log and lens."""
    return adapter


def find_remains(
    archive: Archive, model_history: list[ModelInHistory], items: pl.DataFrame, forget: ForgetConfig, *weights: Any
) -> tuple[ForgetReport, list[str]]:
    """List the stored versions with rows of the users, or traces of them in weights, once the new weights are stored.

    A hook erases the versions at the returned addresses, in this order, after a successful run.
    """
    versions = archive.versions()
    left = remains.find_remains(versions, Forgotten.from_versions(forget.users, versions, items["item_id"]))
    erased = [*left.rows, *(left.traces if forget.retrain else [])]
    old = remains.models_that_name(model_history, erased, versions)
    report: ForgetReport = {
        "forgotten": len(forget.users),
        "rows": [described(version) for version in (*old, *left.rows)],
        "traces": [described(version) for version in left.traces],
    }
    addresses = [each["address"] for each in (*report["rows"], *(report["traces"] if forget.retrain else []))]
    return report, addresses if forget.erase else []


def name_current_model(
    model_history: list[ModelInHistory],
    versions_in_use: Callable[[Iterable[str]], dict[str, str]],
    archive: Archive,
    versions_to_erase: list[str],
    forgotten_users: Record,
    **weights: Any,
) -> CurrentModel:
    """Name the current model with the versions that this run has made without the users.

    It is saved last, so that the service reads it, with the users among the forgotten ones, before the journal loses
    their events. ValueError if a version that should be erased is needed.
    """
    made = versions_in_use([*TABLES, *weights])
    versions = dict(sorted({**model_history[0]["versions"], **made}.items()))
    erased = [each for each in archive.versions() if each.address in versions_to_erase]
    archive.require_erasable(erased, versions.items())
    decision = {"chosen": FORGOTTEN, "reason": "users were forgotten"}
    return CurrentModel(versions=versions, decision=decision, made_by=made["log"])


def show_remains(forget_report: ForgetReport, forget: ForgetConfig) -> None:
    """Print the ids, which no file keeps, the entries with versions that hold their data, and what happens to these."""
    show(f"Forgotten: {', '.join(repr(str(user)) for user in forget.users)}.")
    show(remains.remains_table(forget_report, erase=forget.erase, retrain=forget.retrain))
