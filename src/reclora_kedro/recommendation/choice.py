"""The choice of how items are found, by likes of the validation split."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from kedro_provenance.errors import Parameter, worded
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation.chosen import Choice, Concentration, Configs, settings_of_sources
from reclora_kedro.recommendation.config import RERANKED, SECOND_STAGES, RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw, moments_of, rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import RankingRow, compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever
    from reclora_kedro.lens.states import LensReader

logger = logging.getLogger(__name__)

LEVEL = 0.05  # two-sided, at which a method is worse than the best one
LEAST_LIKES = 100  # of the validation split, that choose a method
COMPLEXITY = {"fusion": 1, "ranker": 2}  # a source has 0
TESTED_LISTS = 1000  # at test moments, that delivered ones are compared with


class ValidationLikes(NamedTuple):
    """Likes of the validation split by what they are for, with the times at which models are asked."""

    settings: pl.DataFrame  # choose those of the sources: a draw of all likes
    teaching: pl.DataFrame  # teach the second stage: likes of one half of the users
    choosing: pl.DataFrame  # choose the method: likes of the other half, which taught it nothing

    @classmethod
    def draw(cls, log: InteractionLog, config: RecommendationConfig) -> "ValidationLikes":
        rules, rows = config.rules_of(log.items), (None, config.validation_likes)
        every, some = (draw_positives(log, "validation", count, config.seed, rules) for count in rows)
        every, some = (moments_of(likes, log, config.protocol) for likes in (every, some))
        return cls(some, *halves_of_users(every, (config.teaching_likes, config.validation_likes), config.seed))


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """Chooses the settings of sources, the second stage, and the method, by the ranking of validation likes.

    All models know the training events and what `recommendation.protocol` adds to them. See `chosen_method`.
    """

    log: InteractionLog
    config: RecommendationConfig
    configs: Configs  # of the sources
    bootstrap: Bootstrap
    lens: "LensReader | None" = None  # reorders lists where `recommendation.order` is lens
    retriever: "Retriever | None" = None  # a source that a step of its own has trained
    in_use: Choice | None = None
    engine: EngineConfig = LOCAL  # whose workers share the settings, the fit and the likes

    def choose(self) -> tuple[Choice, list[RankingRow]]:
        """Return the choice, and the records of `compute_ranking_metrics` that it was based on.

        The baseline of the records is the best method; there are none if likes do not choose.
        """
        config, likes = self.config, ValidationLikes.draw(self.log, self.config)
        config.check_ids(self.log.users, self.log.items)  # here alone, as rules are read at many places
        known = self.log.training_events()
        training = Training(config.as_read(self.log), known, self.retriever, engine=self.engine)
        sources = settings_of_sources(config, self.configs, training, likes.settings, config.protocol == "live")
        kind, reason = config.method, "the settings name this method"
        choice = Choice(kind="fusion" if kind == "validation" else kind, order=config.order, sources=sources)
        recommender = FittedRecommender.from_choice(training, choice, config, self.lens).as_measured(training)
        training.release()  # settings that were not chosen have transitions and near items of their own
        choice = choice.model_copy(update={"stage": self._learn_stage(recommender, likes.teaching), "reason": reason})
        if choice.kind == "ranker" and choice.stage.trees is None:
            reason = "the settings name the ranker, but no trees improve the fusion"
            choice = choice.model_copy(update={"kind": "fusion", "reason": reason})
        choice, compared = self._best(replace(recommender, choice=choice), likes.choosing)
        return choice.model_copy(update={"at_test_moments": _test_lists(replace(recommender, choice=choice))}), compared

    def _learn_stage(self, recommender: FittedRecommender, likes: pl.DataFrame) -> SecondStage:
        if not likes.height or set(SECOND_STAGES).isdisjoint(self.config.methods):
            return SecondStage()
        moments, target = recommender.moments(likes), likes["item_index"].to_numpy()
        stage = SecondStage.learned(recommender.reader, moments, target, self.config.seed, self.engine)
        weights = (f"{name} {weight:.3f}" for name, weight in (stage.weights or {}).items())
        logger.info("Weights of the fusion: %s.", ", ".join(weights))
        return stage

    def _best(self, recommender: FittedRecommender, likes: pl.DataFrame) -> tuple[Choice, list[RankingRow]]:
        """Return the choice of a recommender with the method that likes choose, and the records of all methods."""
        choice, config = recommender.choice, self.config
        if len(config.methods) == 1:
            return choice, []
        if (users := likes["user_index"].n_unique()) < 2:
            found = f"{users} user(s) have likes of new items there, but 2 are needed. {choice.kind} is used. Set "
            method = Parameter("recommendation.method"), " to use another one."
            logger.warning(worded("Validation likes cannot choose the method: ", found, *method))
            reason = f"{users} user(s) with validation likes are too few to compare methods"
            return choice.model_copy(update={"reason": reason}), []
        list_makers = recommender.list_makers(config.order)
        ranks = rank_likes(list_makers, recommender.moments(likes), likes, config.top_n, self.engine)
        catalogue = Catalogue.from_log(self.log)
        compared = compute_ranking_metrics(ranks, [*list_makers], catalogue, (config.top_n,), self.bootstrap)
        chosen, reason = chosen_method(compared, self.in_use.name if self.in_use else None)
        return choice.model_copy(update={"kind": chosen.removesuffix(RERANKED), "reason": reason}), compared


def chosen_method(compared: Sequence[RankingRow], before: str | None) -> tuple[str, str]:
    """Return the simplest method that is not significantly worse than the best, and the reason.

    The best source is simpler than the fusion, and that than the ranker; p-values are corrected for the comparisons
    with the best (Holm), which is the baseline of the records, see `compute_ranking_metrics`. The method in use before
    stays until it is significantly worse. Fewer than `LEAST_LIKES` likes let it stay, too, or else take the fusion.
    """
    steps = {record["model"]: COMPLEXITY.get(record["model"].removesuffix(RERANKED), 0) for record in compared}
    current = next((record for record in compared if record["model"] == before), None)
    best = max(compared, key=lambda record: record["ndcg"])
    if best["rows"] < LEAST_LIKES:
        kept = "all sources are combined" if current is None else "it stays"
        chosen = before if current else next(model for model, step in steps.items() if step == 1)
        few = f"{best['rows']} validation likes are too few to compare methods ({LEAST_LIKES} are needed)"
        return str(chosen), f"{few}, so {kept}"
    alike = [record for record in compared if record["p_adjusted"] is None or record["p_adjusted"] >= LEVEL]
    simplest = min(alike, key=lambda each: (each is not current, steps[each["model"]], -each["ndcg"]))
    figures = f"NDCG@{best['k']} {simplest['ndcg']:.3f} on {best['rows']:,} validation likes"
    others = f"{figures}, and {best['model']} ({best['ndcg']:.3f}) is not significantly better"
    figures = f"the highest {figures}" if simplest is best else others
    if current is None or simplest is current:
        return simplest["model"], f"{'it stays, with' if current else 'it has'} {figures}"
    p_value = current["p_adjusted"]
    return simplest["model"], f"it replaces {before}, {current['ndcg']:.3f} (p = {p_value:.3f}), with {figures}"


def halves_of_users(likes: pl.DataFrame, limit: tuple[int | None, int | None], seed: int) -> tuple[pl.DataFrame, ...]:
    """Return likes of either half of the users, drawn uniformly, with a maximum number for each."""
    users = np.random.default_rng(seed).permutation(likes["user_index"].unique().sort().to_numpy())
    is_first = np.isin(likes["user_index"].to_numpy(), users[: len(users) // 2])
    return tuple(draw(likes.filter(own), n, [seed, 1]) for own, n in zip((is_first, ~is_first), limit, strict=True))


def _test_lists(recommender: FittedRecommender) -> Concentration | None:
    """Return how alike lists at test moments are, one for each of some users."""
    log, config = recommender.log, recommender.config
    first = log.samples_in("test", "user_index", "history_end", "timestamp").unique("user_index", maintain_order=True)
    if first.height < 2:
        return None
    moments = recommender.moments(draw(first, TESTED_LISTS, config.seed))
    return Concentration.from_lists(recommender.best_lists(moments, config.top_n).items, log.items.height)
