"""Nodes of the recommendation step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.distributed.engine import EngineConfig, in_files
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation import delivery, item_ranks
from reclora_kedro.recommendation.choice import MethodChoice
from reclora_kedro.recommendation.chosen import StoredChoice, choice_before, labels, stored_choice, validated_configs
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.delivery import ShortlistReport
from reclora_kedro.recommendation.ranking_metrics import RankingRow
from reclora_kedro.recommendation.ranking_report import methods_table
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.visitors import list_of_visitor
from reclora_kedro.terminal import show

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.base import Lens


def choose_method(
    log: InteractionLog,
    config: RecommendationConfig,
    bootstrap: Bootstrap,
    candidate_choice_before: StoredChoice | None,
    engine: EngineConfig,
    lens: Lens | None = None,
    retriever: Retriever | None = None,
    **sources: Any,
) -> tuple[StoredChoice, list[RankingRow]]:
    """Choose how items are found, by validation likes; return the choice, and the metrics that it was based on."""
    choice, compared = MethodChoice(
        log=log,
        config=config,
        configs=validated_configs(config.sources, sources),
        bootstrap=bootstrap,
        lens=None if lens is None else item_ranks.lens_reader(lens, log, config.protocol),
        retriever=retriever,
        in_use=choice_before(candidate_choice_before),
        engine=engine,
    ).choose()
    return choice.stored(), compared


def shortlist_candidates(
    log: InteractionLog,
    recommendation_candidates: Any,
    candidate_choice: StoredChoice,
    config: RecommendationConfig,
    engine: EngineConfig,
    lens: Lens | None = None,
    retriever: Retriever | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, ShortlistReport, dict[str, np.ndarray]]:
    """Return each user's best candidates with reasons, questions about them, counts, and what took long to learn."""
    chosen, bare = stored_choice(candidate_choice), delivery.without_samples(log)
    table = delivery.candidate_table(recommendation_candidates, log) if config.candidates == "table" else None
    training = Training.from_log(bare, retriever=retriever, engine=engine)
    reader = None if lens is None else item_ranks.lens_reader(lens, bare, "live")
    fitted = FittedRecommender.from_choice(training, chosen, config, reader)
    training.release()
    shows_example = reader is None and table is None and config.variant is None  # else users get other lists
    example = list_of_visitor(fitted, config.top_n) if shows_example else None
    learned, users = fitted.learned(), len(log.users if config.users is None else config.users)
    with in_files(fitted, engine, users) as fitted:
        shortlist, served = delivery.lists_for_users(fitted, config.users, config.shortlist, table, engine)
    alike = delivery.concentration(shortlist, config.top_n, log.items.height)
    report = ShortlistReport(
        **served,
        example=example,
        concentration=None if alike is None else alike.model_dump(mode="json"),
        warnings=[] if alike is None or table is not None else alike.warnings(chosen.at_test_moments),
    )
    return shortlist, delivery.candidate_questions(log, shortlist), report, learned


def recommend(
    shortlist: pl.DataFrame,
    config: RecommendationConfig,
    scores: pl.DataFrame | None = None,
    log: InteractionLog | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Return each user's best items, also as lines of text, and the number of pairs that a variant scored.

    A log is given if `config.diversity` compares the items that a variant has scored.
    """
    report = {"pairs_scored": 0 if scores is None else scores.height}
    vectors = None if log is None else log.item_embeddings
    recommended = delivery.best_of_shortlists(shortlist, scores, config.top_n, config.diversity, vectors)
    return recommended, delivery.as_lines(recommended), report


def show_recommendations(
    recommended: pl.DataFrame,
    candidate_metrics: Sequence[RankingRow],
    candidate_choice: StoredChoice,
    shortlist_report: ShortlistReport,
) -> None:
    """Print the recommendations of one user, how well methods find items, and how lists are made."""
    show(delivery.titles_table(recommended))
    chosen = stored_choice(candidate_choice)
    named = labels(chosen.sources)
    if candidate_metrics:
        show(methods_table(candidate_metrics, chosen.name, named))
    show(delivery.delivery_lines(chosen.name, named[chosen.name], chosen.reason, shortlist_report))
