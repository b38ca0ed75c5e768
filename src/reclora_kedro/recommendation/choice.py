"""Choice of the source and the order of candidates by likes of the validation split, unless they are named."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.baselines import neighbours as item_neighbours
from reclora_kedro.baselines import popularity
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearModel
from reclora_kedro.baselines.neighbours import ItemNeighbours
from reclora_kedro.baselines.popularity import Popularity
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.candidates.reader import RetrieverReader
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommendation.config import (
    RERANKED,
    SECOND_STAGES,
    CandidateKind,
    CandidateOrder,
    RecommendationConfig,
)
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.item_ranks import candidate_pairs, rank_by, with_lens_reranked
from reclora_kedro.recommendation.second_stage import SecondStage
from reclora_kedro.recommendation.sources import READ_LINEAR, Choice, SourceSettings, lens_scorer, source_scorers

logger = logging.getLogger(__name__)

Records = list[dict[str, Any]]


def choose(
    lens: Lens,
    log: InteractionLog,
    retriever: Retriever | None,
    config: RecommendationConfig,
    settings: SourceSettings,
    bootstrap: Bootstrap,
) -> tuple[Choice, Records]:
    """Return the source and the order of candidates: as named, or with the best ranking of validation likes.

    Likes of one half of the users train the second stage, those of the other half choose. Without a retriever, the
    other sources are compared.

    Returns:
        The choice, and the records of `compare_candidates` that it was based on; none if likes do not choose.
    """
    learns, fits_linear = (not names.isdisjoint(config.sources) for names in (set(SECOND_STAGES), READ_LINEAR))
    compared, stage, validates = list[dict[str, Any]](), SecondStage(), config.validates
    days, neighbours = popularity.chosen(log, settings.popularity), item_neighbours.chosen(log, settings.neighbours)
    linear = LinearModel.chosen(log, settings.linear) if fits_linear else None
    if validates or learns:
        popular = Popularity(log, days)
        information, reader = popular.information(), LensReader(lens, log)
        scorers = source_scorers(
            popular.score,
            ItemNeighbours(log, neighbours, log.training_events()).score,
            None if linear is None else linear.score,
            None if retriever is None else RetrieverReader(retriever, log).scorer,
        )
        most = [at_most(likes, log.items.height, config) for likes in (config.teaching_likes, config.validation_likes)]
        teaching, choosing = likes_of_halves(log, most[0], most[1], config.seed)
        if learns:
            candidates = CandidateReader(log, ItemFacts(log), scorers, lens_scorer(reader))
            blocks = candidate_pairs(log, teaching, config.seed)
            stage = SecondStage.learned(candidates, blocks, teaching, config.seed)
            logger.info("Weights of the fusion: %s", stage.weights)
            scorers |= stage.scorers(candidates)
        if validates:
            named: dict[str, Scorer] = {
                source: scorer for source, scorer in scorers.items() if source in config.sources
            }
            compared = compare_candidates(named, reader, log, choosing, information, config, bootstrap)
    kind, order = chosen(compared, config)
    choice = Choice(
        kind=kind,
        order=order,
        popularity=days,
        neighbours=neighbours,
        linear=linear.settings if linear is not None and kind in READ_LINEAR else None,
        stage=stage if kind in SECOND_STAGES else SecondStage(),
        made_with=deciding_settings(log, retriever, config, settings),
    )
    return choice, compared


def deciding_settings(
    log: InteractionLog, retriever: Retriever | None, config: RecommendationConfig, settings: SourceSettings
) -> dict[str, Any]:
    """Return what a choice depends on besides the lens and the likes, as JSON values."""
    fields = {"candidates", "order", "validation_likes", "teaching_likes", "retrieved", "exact_items", "top_n", "seed"}
    return {
        "items": log.items.height,
        "retriever": retriever is not None,
        "recommendation": config.model_dump(mode="json", include=fields),
        "popularity": settings.popularity.model_dump(mode="json"),
        "neighbours": settings.neighbours.model_dump(mode="json"),
        "linear": settings.linear.model_dump(mode="json"),
    }


def at_most(likes: int | None, items: int, config: RecommendationConfig) -> int | None:
    """Return how many likes to rank among all items: fewer in a catalogue of more than `config.exact_items`.

    No more pairs of like and item are then scored than in a catalogue of `exact_items`; None stays None, for all likes.
    """
    if likes is None or items <= config.exact_items:
        return likes
    fewer = max(2, likes * config.exact_items // items)
    logger.info(
        "Of at most %d likes, %d are ranked among %d items, see recommendation.exact_items", likes, fewer, items
    )
    return fewer


def likes_of_halves(
    log: InteractionLog, most_of_first: int | None, most_of_second: int | None, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw validation likes of either half of the users, with a maximum number for each."""
    likes = draw_positives(log, "validation", None, None, seed)
    users = np.random.default_rng(seed).permutation(likes["user_index"].unique().sort().to_numpy())
    is_first = np.isin(likes["user_index"].to_numpy(), users[: len(users) // 2])
    first, second = likes.filter(is_first), likes.filter(~is_first)
    drawn = [
        np.sort(np.random.default_rng([seed, 1]).permutation(half.height)[:most])
        for half, most in ((first, most_of_first), (second, most_of_second))
    ]
    return first[drawn[0]], second[drawn[1]]


def compare_candidates(
    scorers: Mapping[str, Scorer],
    reader: LensReader,
    log: InteractionLog,
    likes: pl.DataFrame,
    information: np.ndarray,
    config: RecommendationConfig,
    bootstrap: Bootstrap,
) -> Records:
    """Measure how sources, and the lens on the shortlist of each, rank validation likes in the catalogue.

    Args:
        scorers: scorers of the sources, fitted to the training split.
        information: see `Popularity.information`.

    Returns:
        Records of `compute_ranking_metrics`, at cutoff `config.top_n`, with the best one as the baseline; none, with a
        warning, for likes of fewer than two users.
    """
    if (users := likes["user_index"].n_unique()) < 2:
        logger.warning(
            "Likes of the validation split should choose, but %d user(s) have likes of new items in it, and 2 are "
            "needed: candidates are from %s, in the order of %s. Raise recommendation.validation_likes, or name "
            "recommendation.candidates and order.",
            users,
            *chosen([], config),
        )
        return []
    ranks = rank_by(scorers, log, likes, most=max(config.retrieved, config.top_n), seed=config.seed)
    models = [] if config.order == "lens" else list(scorers)
    if config.order != "candidates":
        ranks = with_lens_reranked(ranks, list(scorers), reader, config.retrieved)
        models += [source + RERANKED for source in scorers]
    ranks = ranks.filter(ranks["model"].is_in(models))
    return compute_ranking_metrics(ranks, models, information, (config.top_n,), bootstrap)


def chosen(compared: Records, config: RecommendationConfig) -> tuple[CandidateKind, CandidateOrder]:
    """Return the source and the order with the highest NDCG, or as named, or else neighbours and the lens."""
    if compared:
        best: str = compared[0]["baseline"]
        source: Any = best.removesuffix(RERANKED)
        return source, "candidates" if best == source else "lens"
    kind = "neighbours" if config.candidates == "validation" else config.candidates
    return kind, "lens" if config.order == "validation" else config.order
