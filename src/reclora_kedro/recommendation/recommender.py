"""The Recommender: item models, a second stage over their best items, the lens where it helps, and rules."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import ItemModel, Training
from reclora_kedro.candidates.moments import NO_ITEM, ItemOrder, Lists, Moments
from reclora_kedro.candidates.popularity import Popularity, PopularitySettings
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RERANKED, SECOND_STAGES, Order, RecommendationConfig
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.second_stage import Delivered, ListMaker, Ordered, Reranked
from reclora_kedro.recommendation.sources import model_of

if TYPE_CHECKING:
    from reclora_kedro.lens.states import LensReader

logger = logging.getLogger(__name__)

REASONS = 3  # events of the user that explain a recommendation, at most
MOMENTS_AT_ONCE = 128  # lists that are made together
TESTED_LISTS = 1000  # at test moments, that delivered ones are compared with


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedRecommender:
    """Makes the lists of a project: for its nodes, the live service, reports and studies; scripts call `Recommender`.

    Attributes:
        log: users, items and events that histories are read from.
        sources: fitted item models by name.
        popularity: serves users without events.
        knn: explains lists.
        order: of items whose scores are equal.
        facts: of items, for the second stage.
        rules: of all lists, see `RecommendationConfig.rules`.
        lens: reads the log, if there is one; without it, methods that need it are not served.
    """

    log: InteractionLog
    config: RecommendationConfig
    choice: Choice
    sources: Mapping[str, ItemModel]
    popularity: Popularity
    knn: ItemKnn
    order: ItemOrder
    facts: ItemFacts
    rules: Mapping[str, Any]
    lens: "LensReader | None" = None

    @classmethod
    def from_choice(
        cls, training: Training, choice: Choice, config: RecommendationConfig, lens: "LensReader | None" = None
    ) -> Self:
        """Fit the sources of a choice to known events.

        Raises:
            ValueError: the choice reads a lens or a retriever, and there is none.
        """
        if lens is None and choice.order == "lens":
            raise ValueError(
                "recommendation.order is lens, but there is no lens: train it, or set it to candidates and choose anew."
            )
        models = {
            source.rpartition(".")[2]: model_of(source).fit(
                training, model_of(source).Settings.model_validate(settings)
            )
            for source, settings in choice.sources.items()
        }
        popularity, knn = models.get("popularity"), models.get("item_knn")
        if not isinstance(popularity, Popularity):
            popularity = Popularity.fit(training, PopularitySettings())
        if not isinstance(knn, ItemKnn):
            knn = ItemKnn.fit(training, ItemKnnSettings())
        return cls(
            log=training.log,
            config=config,
            choice=choice,
            sources=models,
            popularity=popularity,
            knn=knn,
            order=training.order,
            facts=ItemFacts(training.log, training.is_training_event),
            rules=config.rules(training.log.items),
            lens=lens,
        )

    def as_measured(self, training: Training) -> Self:
        """Return the recommender that knows of each moment what `recommendation.protocol` says."""
        return self.as_of_each_moment(training) if self.config.protocol == "live" else self

    def as_of_each_moment(self, training: Training) -> Self:
        """Return a copy that also counts what happened before each moment, as a service that is updated at once would.

        Popularity and facts of items count it; the models' weights stay as they were learned.

        Args:
            training: what it was fitted to.
        """
        models = {name: model.as_of_each_moment(training) for name, model in self.sources.items()}
        popularity = models.get("popularity")
        if not isinstance(popularity, Popularity):
            popularity = self.popularity.as_of_each_moment(training)
        has_clock = training.log.shared_clock  # without one, events after a moment cannot be told from those before it
        facts = ItemFacts(training.log) if has_clock else self.facts
        return replace(self, sources=models, popularity=popularity, facts=facts)

    def with_events(self, log: InteractionLog, changed: np.ndarray | None = None) -> Self:
        """Return a copy for a log that grew from its own: histories and neighbours have its events.

        What was learned stays; popularity and facts of items are those of the events that it was fitted to.

        Args:
            changed: indices, ascending, of the users whose events differ; None for all.
        """
        models = {name: model.with_events(log, changed) for name, model in self.sources.items()}
        knn = models.get("item_knn")
        return replace(
            self,
            log=log,
            sources=models,
            knn=knn if isinstance(knn, ItemKnn) else self.knn.with_events(log, changed),
            lens=None if self.lens is None else self.lens.with_log(log),
        )

    def learned(self) -> dict[str, np.ndarray]:
        """Return what the sources took long to learn, see `ItemModel.learned`, each array as ``source/name``."""
        learned = {name: model.learned() for name, model in self.sources.items()}
        return {f"{source}/{name}": array for source, own in learned.items() for name, array in own.items()}

    @cached_property
    def reader(self) -> CandidateReader:
        return CandidateReader(self.sources, self.facts)

    def list_maker(self, kind: str, order: Order = "candidates") -> ListMaker:
        """Return what makes the lists of a source or a second stage, reranked by the lens or not, as users get them."""
        first = self._first(kind)
        if order == "lens":
            assert self.lens is not None  # of a choice that reads it
            first = Reranked(first, self.lens, self.config.shortlist)
        vectors = self.log.item_embeddings if self.config.diversity else None
        return Delivered(first, self.popularity, vectors, self.config.diversity, self.config.shortlist)

    def _first(self, kind: str) -> ListMaker:
        return Ordered(self.reader, self.choice.stage.order(kind)) if kind in SECOND_STAGES else self.sources[kind]

    def list_makers(self, order: Order) -> dict[str, ListMaker]:
        """Return all methods of an order by name, to compare them.

        There is no fusion without learned weights, unless it is the chosen method, and no ranker without trees, which
        would be the fusion again.
        """
        stage = self.choice.stage
        fusion = ["fusion"] if stage.weights is not None or self.choice.kind in SECOND_STAGES else []
        kinds = [*self.sources, *fusion, *(["ranker"] if stage.trees else [])]
        return {kind + (RERANKED if order == "lens" else ""): self.list_maker(kind, order) for kind in kinds}

    @cached_property
    def _list_maker(self) -> ListMaker:
        return self.list_maker(self.choice.kind, self.choice.order)

    def moments(
        self,
        frame: pl.DataFrame,
        *,
        repeat: bool | np.ndarray | None = None,
        excluded: Sequence[np.ndarray] | None = None,
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> Moments:
        """Return moments under the rules of the settings.

        Args:
            frame: user_index, history_end and timestamp, see `InteractionLog.now`.
            repeat: whether items that a user took may be recommended, by row or for all; None as in the settings.
            excluded: further item indices that each row may not get.
            allowed: the only item indices that each row may get.
        """
        rules = self.rules
        without: np.ndarray | list[np.ndarray] = rules["excluded"]
        if excluded is not None:
            without = [np.concatenate([rules["excluded"], each]) for each in excluded]
        may_repeat = rules["repeat"] if repeat is None else repeat
        return Moments.from_frame(
            frame, self.log.sequences, self.order, repeat=may_repeat, excluded=without, allowed=allowed
        )

    def best_lists(self, moments: Moments, n: int) -> Lists:
        """Return the best items of moments by the chosen method: n, or as many as there are."""
        n = min(n, self.log.items.height)
        lists = Lists.empty(len(moments), n)
        for start in range(0, len(moments), MOMENTS_AT_ONCE):
            rows = slice(start, start + MOMENTS_AT_ONCE)
            lists.items[rows], lists.scores[rows] = self._list_maker.top(moments[rows], n)
        return lists

    def explain(self, moments: Moments, items: np.ndarray) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Return for each item of lists, (moments, n), the items of the user's events nearest to it, and their weights.

        There are at most `REASONS`, none for users without events, and none that add little to the item's score.
        """
        reasons = []
        for row, of_row in enumerate(items):
            own = of_row[of_row != NO_ITEM]
            reasons.append(self.knn.reasons(moments, row, own, REASONS) if len(own) else [])
        return reasons


def learned_by_source(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return what `Recommender.learned` has returned as `Training.trained` has it."""
    by_source = dict[str, dict[str, np.ndarray]]()
    for name, array in arrays.items():
        source, _, own = name.partition("/")
        by_source.setdefault(source, {})[own] = array
    return by_source
