"""The Recommender: item models, a second stage over their best items, the lens where it helps, and rules."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import ItemModel, Training
from reclora_kedro.candidates.moments import NO_ITEM, ItemOrder, Lists, Moments
from reclora_kedro.candidates.popularity import Popularity, PopularitySettings
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import Rules
from reclora_kedro.recommendation.chosen import Choice, model_of
from reclora_kedro.recommendation.config import SECOND_STAGES, Order, RecommendationConfig, method_name
from reclora_kedro.recommendation.features import CandidateReader
from reclora_kedro.recommendation.rules import Rule, Ruled
from reclora_kedro.recommendation.second_stage import Delivered, ListMaker, Ordered, Reranked

if TYPE_CHECKING:
    from reclora_kedro.lens.states import LensReader

logger = logging.getLogger(__name__)

REASONS = 3  # events of the user that explain a recommendation, at most
MOMENTS_AT_ONCE = 128  # lists that are made together


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedRecommender:
    """Makes the lists of a project: for nodes, the live service, reports and studies; scripts call `Recommender`."""

    log: InteractionLog  # that histories are read from
    config: RecommendationConfig
    choice: Choice
    sources: Mapping[str, ItemModel]  # fitted, by name
    popularity: Popularity  # serves users without events
    knn: ItemKnn  # explains lists
    order: ItemOrder  # of items whose scores are equal
    facts: ItemFacts  # of items, for the second stage
    rules: Rules
    lens: "LensReader | None" = None  # reads the log; without it, methods that need it are not served

    @classmethod
    def from_choice(
        cls, training: Training, choice: Choice, config: RecommendationConfig, lens: "LensReader | None" = None
    ) -> Self:
        """Fit the sources of a choice to known events; raise ValueError if it reads a missing lens or retriever."""
        if lens is None and choice.order == "lens":
            advice = "Train one, or set it to candidates and choose again"
            raise Fault(Parameter("recommendation.order"), "is lens, but there is no lens", advice=advice)
        models, kinds = dict[str, ItemModel](), {source: model_of(source) for source in choice.sources}
        for source, settings in choice.sources.items():
            settings_ = kinds[source].Settings.model_validate(settings)
            models[source.rpartition(".")[2]] = kinds[source].fit(training, settings_)
        popularity = next((each for each in models.values() if isinstance(each, Popularity)), None)
        knn = next((each for each in models.values() if isinstance(each, ItemKnn)), None)
        return cls(
            log=training.log,
            config=config,
            choice=choice,
            sources=models,
            popularity=popularity or Popularity.fit(training, PopularitySettings()),
            knn=knn or ItemKnn.fit(training, ItemKnnSettings()),
            order=training.order,
            facts=ItemFacts(config.as_read(training.log), training.is_training_event),
            rules=config.rules_of(training.log.items),
            lens=lens,
        )

    def as_measured(self, training: Training) -> Self:
        """Return the recommender that knows of each moment what `recommendation.protocol` says."""
        return self.as_of_each_moment(training) if self.config.protocol == "live" else self

    def as_of_each_moment(self, training: Training) -> Self:
        """Return a copy that also counts what happened before each moment, as a service that is updated at once would.

        Popularity and facts of items count it; the models' weights stay as they were learned from the training.
        """
        has_clock = training.log.shared_clock  # without one, events after a moment cannot be told from those before it
        facts = ItemFacts(training.log) if has_clock else self.facts
        return replace(self._with_models(lambda model: model.as_of_each_moment(training)), facts=facts)

    def with_log(self, log: InteractionLog, changed: np.ndarray | None = None) -> Self:
        """Return a copy for a log that grew from its own: histories and neighbours have its events.

        What was learned stays; popularity and facts of items are those of the events that it was fitted to. Users whose
        events differ are named by index, ascending; None for all. Items may have other values, though not other texts.
        """
        lens = None if self.lens is None else self.lens.with_log(log)
        grown = replace(self._with_models(lambda model: model.with_events(log, changed)), log=log, lens=lens)
        if log.items is self.log.items:
            return grown
        return replace(grown, rules=self.config.rules_of(log.items), facts=self.facts.with_numbers(log.items))

    def _with_models(self, change: Callable[[ItemModel], Any]) -> Self:
        changed = {model: change(model) for model in (*self.sources.values(), self.popularity, self.knn)}
        sources = {name: changed[model] for name, model in self.sources.items()}
        return replace(self, sources=sources, popularity=changed[self.popularity], knn=changed[self.knn])

    def learned(self) -> dict[str, np.ndarray]:
        """Return what the sources took long to learn, see `ItemModel.learned`, each array as ``source/name``."""
        models = self.sources.items()
        return {f"{source}/{name}": array for source, model in models for name, array in model.learned().items()}

    @cached_property
    def reader(self) -> CandidateReader:
        return CandidateReader(self.sources, self.facts)

    def list_maker(self, kind: str, order: Order = "candidates", *, under_rules: bool = True) -> ListMaker:
        """Return what makes the lists of a source or a second stage, reranked by the lens or not, as users get them."""
        first: ListMaker = self.sources[kind] if kind in self.sources else Ordered(self.reader, self.choice.stage, kind)
        if order == "lens":
            assert self.lens is not None  # of a choice that reads it
            first = Reranked(first, self.lens, self.config.shortlist)
        vectors = self.log.item_embeddings if self.config.diversity else None
        delivered = Delivered(first, self.popularity, vectors, self.config.diversity, self.config.shortlist)
        if not (under_rules and any(rule.moves for rule in self.config.rules)):
            return delivered
        return Ruled(delivered, self.config.rules, self.log.items, self.config.top_n)

    def with_rules(self, rules: Sequence[Rule] | None) -> Self:
        """Return a copy whose lists are under these rules; itself for None, which are those of the settings."""
        if rules is None:
            return self
        config = self.config.under(rules)
        return replace(self, config=config, rules=config.rules_of(self.log.items))

    def told_rules(self, numbers: np.ndarray) -> pl.Series:
        """Return in words the rules by their numbers in lists; null where none has moved the item."""
        told = [*map(str, self.config.rules), None]  # the last of `NO_RULE`
        return pl.Series([told[number] for number in numbers.tolist()], dtype=pl.String)

    def list_makers(self, order: Order) -> dict[str, ListMaker]:
        """Return all methods of an order by name, to compare them.

        There is no fusion without learned weights, unless it is the chosen method, and no ranker without trees, which
        would be the fusion again.
        """
        stage = self.choice.stage
        fusion = ["fusion"] if stage.weights is not None or self.choice.kind in SECOND_STAGES else []
        kinds = [*self.sources, *fusion, *(["ranker"] if stage.trees else [])]
        return {method_name(kind, order): self.list_maker(kind, order) for kind in kinds}

    def moments(
        self,
        frame: pl.DataFrame,
        *,
        repeat: bool | np.ndarray | None = None,
        excluded: Sequence[np.ndarray] | None = None,
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> Moments:
        """Return moments under the rules of the settings, and further ones, see `Moments.from_frame`.

        Repeated items are as in the settings (None), or by row or for all; each row may not get excluded items, either.
        """
        may_repeat, without = self.rules.repeat if repeat is None else repeat, self.rules.excluded
        hidden = without if excluded is None else [np.concatenate([without, each]) for each in excluded]
        return Moments.from_frame(
            frame, self.log.sequences, self.order, repeat=may_repeat, excluded=hidden, allowed=allowed
        )

    @cached_property
    def _list_maker(self) -> ListMaker:
        return self.list_maker(self.choice.kind, self.choice.order)

    def best_lists(self, moments: Moments, n: int, shown: int | None = None) -> Lists:
        """Return the best items of moments by the chosen method: n, or as many as there are.

        Rules hold for the first `shown` items of each list, by default for `recommendation.top_n`.
        """
        n, maker = min(n, self.log.items.height), self._list_maker
        make = maker.top if shown is None or not isinstance(maker, Ruled) else partial(maker.top, shown=shown)
        starts = range(0, max(1, len(moments)), MOMENTS_AT_ONCE)
        parts = [make(moments[start : start + MOMENTS_AT_ONCE], n) for start in starts]
        return Lists(*map(np.concatenate, zip(*parts, strict=True)))

    def explain(self, moments: Moments, items: np.ndarray) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Return for each item of lists, (moments, n), the items of the user's events nearest to it, and their weights.

        There are at most `REASONS`, none for users without events, and none that add little to the item's score.
        """
        lists = (of_row[of_row != NO_ITEM] for of_row in items)
        return [self.knn.reasons(moments, row, own, REASONS) if len(own) else [] for row, own in enumerate(lists)]
