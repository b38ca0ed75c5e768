"""Nodes of the update pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kedro_provenance.parameters import reads
from reclora_kedro.current_model import TABLES, CurrentModel, ModelInHistory
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Record
from reclora_kedro.finetuning.config import AdapterContinuationConfig, VariantConfig
from reclora_kedro.history import log_builder
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.log_builder import Growth
from reclora_kedro.ingestion.cleaning_report import CheckedRows, CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import with_sent_items
from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.lens.config import ContinuationConfig
from reclora_kedro.llm import item_vectors
from reclora_kedro.llm.item_vectors import Arrays
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.terminal import show
from reclora_kedro.update import promotion, updates
from reclora_kedro.update.config import ExaminationConfig, PromotionConfig
from reclora_kedro.update.promotion import Decision
from reclora_kedro.update.updates import RawEntities

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.gate_inputs import GateInputs
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.llm.language_model import LanguageModel
    from reclora_kedro.llm.sentence_encoder import SentenceEncoder

KEPT = ("tuned_item_encoder", "lens")  # entries whose versions the next model keeps if the update does not make them
LISTS = "lists"  # what was `chosen` by an update that trains no lens


def clean_new_interactions(
    previous_interactions: pl.LazyFrame,
    raw_new_interactions: Any,
    journal: pl.DataFrame,
    users_to_drop: pl.DataFrame,
    previous_items: pl.DataFrame,
    raw_new_items: Any,
    raw_new_item_texts: Any,
    config: IngestionConfig,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, list[CheckedRows]]:
    """Clean the new interactions of a raw table and of the service's journal; return them with a report."""
    report = CleaningReport()
    sent, events = updates.items_and_events(journal)
    raw = RawEntities(raw_new_items, raw_new_item_texts)
    items = updates.described_items(with_sent_items(previous_items, sent), raw, config)
    settings = (config, report, engine, ForgottenUsers.from_table(users_to_drop), items)
    new = updates.clean_new_events(raw_new_interactions, events, previous_interactions, *settings)
    return new, report.records()


def append_interactions(
    new_interactions: pl.DataFrame,
    previous_interactions: pl.LazyFrame,
    withheld: pl.DataFrame,
    current_log: InteractionLog,
    first_log: InteractionLog,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    config: ExaminationConfig,
    accept: Any,  # Kedro has no unions: see `examination.decided`
    reject: Any,
    current_lens: Lens | None = None,
    first_lens: Lens | None = None,
) -> tuple[pl.LazyFrame, pl.DataFrame, list[CheckedRows]]:
    """Append the new interactions without alarms, and those of accepted groups, quarantined ones of before included.

    One node, so that nothing reads the interactions before they are examined. It returns all interactions, those that
    are kept out, and a report.
    """
    from reclora_kedro.update.examination import Examination, Model

    report = CleaningReport()
    current, first = Model(current_lens, current_log), Model(first_lens, first_log)
    examination = Examination(previous_interactions, current, first, ingestion, history, config, report)
    new, out = examination.keep_out(new_interactions, withheld, accept, reject)
    return updates.append_events(previous_interactions, new, ingestion, report), out, report.records()


def append_entities(
    interactions: pl.LazyFrame,
    previous_items: pl.DataFrame,
    previous_users: pl.DataFrame,
    raw_new_items: Any,
    raw_new_item_texts: Any,
    raw_new_users: Any,
    journal: pl.DataFrame,
    config: IngestionConfig,
) -> tuple[pl.DataFrame, pl.DataFrame, list[CheckedRows]]:
    """Append new items, those of the service included, and users to the canonical ones, with a report."""
    report, raw = CleaningReport(), RawEntities(raw_new_items, raw_new_item_texts, raw_new_users)
    items = updates.append_items(previous_items, interactions, raw, config.items, config.item_texts, report)
    sent, _ = updates.items_and_events(journal)
    items = with_sent_items(items, sent)
    report.record("items that were sent to the service", len(sent), "their values are taken")
    users = updates.append_users(previous_users, interactions, raw, config.users, report)
    return items, users, report.records()


@reads(ingestion=["interactions.columns"])
def build_grown_log(
    interactions: pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    current_log: InteractionLog,
    history: HistoryConfig,
    ingestion: IngestionConfig,
    engine: EngineConfig,
) -> tuple[InteractionLog | LogInFiles, list[CheckedRows]]:
    """Build the log of the grown tables: samples that the current model's log had train, new ones are split by time."""
    updates.require_grown(current_log, items, users)
    report, known = CleaningReport(), updates.known_moments(current_log)
    growth = Growth(current_log.sequences, *updates.new_split(interactions, users, known))
    schema = ingestion.interactions.events
    log = log_builder.build_log(interactions, items, users, history, engine, report, growth, schema=schema)
    return updates.train_on_known(log, known), report.records()


@reads(history=["item_embedding"])
def embed_new_items(
    log_without_embeddings: InteractionLog,
    current_log: InteractionLog,
    current_item_embeddings: Arrays,
    history: HistoryConfig,
    engine: EngineConfig,
    *inputs: LanguageModel | SentenceEncoder | InteractionLog,
) -> tuple[Arrays, InteractionLog]:
    """Extend the current model's item vectors by those of new and newly described items; return them and the log."""
    config = history.item_embedding
    encoders = dict(zip(config.with_input, inputs, strict=True))
    texts, texts_before = describe_items(log_without_embeddings.items), describe_items(current_log.items)
    vectors = item_vectors.embed_new_items(texts, texts_before, current_item_embeddings, config, encoders, engine)
    return vectors, log_without_embeddings.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])


def train_challenger(
    current_lens: Lens,
    log: InteractionLog,
    current_log: InteractionLog,
    config: ContinuationConfig,
    engine: EngineConfig,
) -> tuple[Lens, pl.DataFrame]:
    """Train the current model's lens on new samples, without those for the comparison."""
    from reclora_kedro.lens.growth import continue_lens

    log_builder.require_training(log)
    held_out = updates.held_out_rows(log, current_log, PromotionConfig.held_out, current_lens.config.seed)
    learned = log.with_training_rows(np.setdiff1d(log.rows_in("train"), held_out))
    is_new = updates.is_new_to(current_lens, log.samples, updates.known_moments(current_log))
    return continue_lens(current_lens, learned, config, engine, is_new)


def promote(
    current_lens: Lens,
    challenger_lens: Lens,
    first_lens: Lens,
    log: InteractionLog,
    current_log: InteractionLog,
    first_log: InteractionLog,
    config: PromotionConfig,
    bootstrap: Bootstrap,
    accept: Any,
) -> tuple[Lens, Record]:
    """Return the lens to use from now on, and the decision."""
    from reclora_kedro.lens.growth import grow_lens
    from reclora_kedro.lens.states import LensReader, lens_scores
    from reclora_kedro.update.examination import LENS

    newest, accepts_lens = log.samples_in("test"), accept is True or (accept is not False and LENS in accept)
    held_out = log.samples[updates.held_out_rows(log, current_log, config.held_out, current_lens.config.seed)]
    held_out = updates.with_labels_of(held_out, current_log, first_log)
    lenses = {"champion": current_lens, "challenger": challenger_lens, "first": first_lens}
    lenses = {name: grow_lens(lens, log) for name, lens in lenses.items()}
    trusted = updates.trusted_rows(log, first_log, config.held_out, current_lens.config.seed)
    rows = pl.concat([newest, held_out, trusted])
    scores = {name: lens_scores({"logit": LensReader(lens, log).logits(rows)}) for name, lens in lenses.items()}
    rule = promotion.Promotion(config, bootstrap)
    decision = rule.decide_among_three(newest, held_out, trusted, scores, accept=accepts_lens)
    report = decision.model_dump() | {"log_has_grown": updates.has_grown(log, current_log)}
    return lenses[decision.chosen], report


def take_log(log: InteractionLog, current_log: InteractionLog) -> Record:
    """Return the decision to make lists of the grown log, where no lens is trained."""
    reason = "There is no lens to train: lists are made of the grown log."
    return {"chosen": LISTS, "reason": reason, "log_has_grown": updates.has_grown(log, current_log)}


def grow_retriever(current_retriever: Retriever, log: InteractionLog) -> Retriever:
    """Return the current model's retriever for all items of the grown log."""
    from reclora_kedro.candidates.next_item import base as retrievers

    return retrievers.grow_retriever(current_retriever, log)


@reads(history=["prompt_rows.test", "seed"])
def draw_update_questions(
    log: InteractionLog, current_log: InteractionLog, history: HistoryConfig, config: AdapterContinuationConfig
) -> pl.DataFrame:
    """Draw the samples to train and validate the adapter on, and the newest ones."""
    from reclora_kedro.update import adapters

    known, newest = updates.known_moments(current_log), history.prompt_rows.test
    return adapters.update_questions(log.samples, known, config, newest, history.seed)


def update_adapter(
    base_llm: LanguageModel,
    current_adapter: str,
    prompts: pl.DataFrame,
    gate_inputs: GateInputs,
    prompt_config: PromptConfig,
    variant: VariantConfig,
    config: AdapterContinuationConfig,
    promotion_config: PromotionConfig,
    bootstrap: Bootstrap,
    engine: EngineConfig,
) -> tuple[pl.DataFrame, Record, Any]:
    """Return the training logs of the current model's adapter, the decision, and the adapter to use from now on."""
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.update import adapters

    model = answering_model(
        base_llm, prompt_config, engine, adapter=current_adapter, gate_inputs=gate_inputs, blend=variant.blend
    )
    settings = (config, variant.training, promotion.Promotion(promotion_config, bootstrap))
    log, decision = adapters.update_adapter(model, prompts, gate_inputs, *settings)
    return log, decision.model_dump(), model.model


def name_current_model(
    promotion_report: Record,
    versions_in_use: Callable[[Iterable[str]], dict[str, str]],
    model_history: list[ModelInHistory],
    new_interactions_report: list[CheckedRows],
    variant: str | None,
    ranked_by: str | None,
    retriever: bool,
    adapter_promotion_report: Record | None = None,
    **weights: Any,
) -> CurrentModel:
    """Return the versions that this update has made, or the current model unchanged if there was nothing new.

    `variant` was trained with the lens, if any, and `ranked_by` ranks lists.
    """
    before = model_history[0]
    if not promotion_report["log_has_grown"]:
        return CurrentModel(versions=before["versions"], decision=before["decision"], made_by=before["made_by"])
    if ranked_by not in (None, variant):
        logger.warning(
            "recommendation.variant is %s, whose adapter belongs to the lens before this update, so it cannot rank "
            "lists: train it in updates as well, with update.variant=%s, or train it again.",
            ranked_by,
            ranked_by,
        )
    [run] = versions_in_use(["promotion_report"]).values()
    kept = {name: before["versions"][name] for name in KEPT if name in before["versions"]}
    made = {"lens": promotion_report["chosen"] != LISTS, f"{variant}.adapter": bool(variant), "retriever": retriever}
    entries = [*TABLES, *(name for name, is_made in made.items() if is_made)]
    read = sum(record["rows"] for record in new_interactions_report if record["check"] == updates.JOURNAL_EVENTS)
    adapter = {"adapter": adapter_promotion_report} if adapter_promotion_report else {}
    decision = promotion_report | {"journal_events": read} | adapter
    return CurrentModel(versions=kept | versions_in_use(entries), decision=decision, made_by=run)


def show_update(
    promotion_report: Record,
    new_interactions_report: list[CheckedRows],
    examination_report: list[CheckedRows],
    new_entities_report: list[CheckedRows],
    adapter_promotion_report: Record | None = None,
) -> None:
    """Print the counts and decisions of the update."""
    show(promotion.update_table([*new_interactions_report, *examination_report, *new_entities_report]))
    reason, is_of_lens = promotion_report["reason"], promotion_report["chosen"] != LISTS
    decided = promotion.promotion_table("Lens", Decision.model_validate(promotion_report)) if is_of_lens else reason
    show(decided)
    if adapter_promotion_report:
        show(promotion.promotion_table("Adapter", Decision.model_validate(adapter_promotion_report)))
