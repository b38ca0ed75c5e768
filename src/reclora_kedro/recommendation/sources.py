"""Sources of items in a catalogue at any moments: baselines, a retriever, or combinations of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeVar

import numpy as np
import polars as pl
from pydantic import Field, JsonValue

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearConfig, LinearModel, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig
from reclora_kedro.candidates.base import Retriever
from reclora_kedro.candidates.index import ItemIndex, UnseenItems
from reclora_kedro.candidates.reader import RetrieverReader
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.parameters import Positive
from reclora_kedro.recommendation.config import SECOND_STAGES, CandidateKind, CandidateOrder
from reclora_kedro.recommendation.features import LENS, CandidateReader
from reclora_kedro.recommendation.finders import BestOfSources, Catalogue, Finder, NearItems, PopularItems, Source
from reclora_kedro.recommendation.second_stage import SecondStage

NOTES = {
    "retriever": "a next-item model that was trained over the whole catalogue",
    "fusion": "the sources' best items, by the logarithms of their ranks and the lens, weighted by validation likes",
    "ranker": "the same, corrected by trees of ranks, scores, popularity, age and texts, by validation likes",
}


READ_LINEAR, READ_RETRIEVER = {"linear", *SECOND_STAGES}, {"retriever", *SECOND_STAGES}
"""Sources that read the linear model, and the retriever."""


@dataclass(frozen=True)
class SourceSettings:
    """Settings of the sources that are fitted on demand; for `exact_items` see `RecommendationConfig`."""

    popularity: PopularityConfig
    neighbours: ItemNeighboursConfig
    linear: LinearConfig
    exact_items: int


class Choice(Block):
    """How candidates are found."""

    kind: CandidateKind
    order: CandidateOrder
    popularity: Positive | None = None  # days of its window; None for all time
    neighbours: ItemNeighboursConfig | None = None  # None for the settings in the parameters
    linear: LinearSettings | None = None  # if the kind needs it
    stage: SecondStage = SecondStage()  # orders the best items of all sources, if the kind is a second stage
    made_with: dict[str, JsonValue] = Field(default_factory=dict)  # see `choice.deciding_settings`

    @property
    def reads_lens(self) -> bool:
        return self.kind == "ranker" or (self.kind == "fusion" and LENS in (self.stage.weights or {}))


def source_scorers(
    popularity: Scorer, neighbours: Scorer, linear: Scorer | None, retriever: Scorer | None
) -> dict[str, Scorer]:
    """Return the scorers of the available sources by name; each scores the same table once, see `once`."""
    named = {"popularity": popularity, "neighbours": neighbours, "linear": linear, "retriever": retriever}
    return {source: once(scorer) for source, scorer in named.items() if scorer is not None}


@dataclass(frozen=True, eq=False)
class FittedSources:
    """Sources fitted to a log, and the second stage over all of them."""

    log: InteractionLog  # whose histories they read, of the same users and items
    popularity: Popularity
    neighbours: ItemNeighbours
    linear: LinearModel | None
    retriever: RetrieverReader | None
    facts: ItemFacts | None  # for the second stage alone
    lens: Scorer | None  # if the second stage reads it
    stage: SecondStage

    @classmethod
    def fit(
        cls,
        choice: Choice,
        settings: SourceSettings,
        retriever: Retriever | None,
        lens: Lens | None,
        log: InteractionLog,
        events: InteractionLog | None = None,
    ) -> Self:
        """Fit the sources to all events of the log, not only to the training split.

        Args:
            events: a log of the same users and items, of whose events they know instead; a lens knows those of `log`.
        """
        events = log if events is None else events
        neighbours = ItemNeighbours(events, choice.neighbours or settings.neighbours)
        linear = None if choice.linear is None else LinearModel.fit(events, choice.linear, settings.linear)
        return cls(
            log,
            Popularity(events, choice.popularity),
            neighbours.with_log(log),
            None if linear is None else linear.with_log(log),
            None if retriever is None else RetrieverReader(retriever, log),
            ItemFacts(events) if choice.kind in SECOND_STAGES else None,
            lens_scorer(LensReader(lens, log)) if lens is not None and choice.reads_lens else None,
            choice.stage,
        )

    @cached_property
    def scorers(self) -> dict[str, Scorer]:
        """Scorers of the sources without the second stage."""
        return source_scorers(
            self.popularity.score,
            self.neighbours.score,
            None if self.linear is None else self.linear.score,
            None if self.retriever is None else self.retriever.scorer,
        )

    @cached_property
    def candidates(self) -> CandidateReader:
        assert self.facts is not None  # no other source asks
        return CandidateReader(self.log, self.facts, self.scorers, self.lens)

    def scorer(self, kind: str) -> Scorer:
        """Return the scorer of a source, or of an order of the second stage."""
        return self.scorers[kind] if kind in self.scorers else self.stage.scorers(self.candidates)[kind]

    def finder(self, kind: str, pool: np.ndarray, index: ItemIndex | None) -> Finder:
        """Return the finder of a source, or of an order of the second stage.

        Args:
            pool: indices of all items, most popular first.
            index: index of the retriever's items, without which it finds none.
        """
        catalogue = Catalogue(self.log.sequences, pool)
        finders: dict[str, Source] = {
            "popularity": PopularItems(catalogue, self.popularity),
            "neighbours": NearItems(catalogue, once(self.neighbours.sparse_scores)),
        }
        if self.linear is not None:
            finders["linear"] = NearItems(catalogue, once(self.linear.sparse_scores))
        if self.retriever is not None and index is not None:
            finders["retriever"] = UnseenItems(self.retriever, index)
        if kind in finders:
            return finders[kind]
        return BestOfSources(catalogue, finders, self.candidates, self.stage.orders[kind])


def current_source(
    choice: Choice,
    settings: SourceSettings,
    retriever: Retriever | None,
    lens: Lens | None,
    log: InteractionLog,
    pool: np.ndarray,
) -> Scorer | Finder:
    """Return the scorer of a source fitted to all events, or its finder above `settings.exact_items` items.

    Args:
        pool: indices of all items, most popular first.
    """
    sources = FittedSources.fit(choice, settings, retriever, lens, log)
    if log.items.height <= settings.exact_items:
        return sources.scorer(choice.kind)
    index = ItemIndex.of(retriever) if retriever is not None and choice.kind in READ_RETRIEVER else None
    return sources.finder(choice.kind, pool, index)


def lens_scorer(reader: LensReader) -> Scorer:
    return lambda pairs: reader.logits(pairs).numpy()


Scores = TypeVar("Scores")


def once(scorer: Callable[[pl.DataFrame], Scores]) -> Callable[[pl.DataFrame], Scores]:
    """Wrap a scorer to score a table once when it is called several times in a row with the same object."""
    last: tuple[pl.DataFrame, Scores] | None = None

    def score(pairs: pl.DataFrame) -> Scores:
        nonlocal last
        scored = last  # threads of a service may ask at once
        if scored is None or scored[0] is not pairs:
            last = scored = pairs, scorer(pairs)
        return scored[1]

    return score
