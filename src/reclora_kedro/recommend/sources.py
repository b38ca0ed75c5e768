"""Sources of items in a catalogue at any moments: baselines, a retriever, or combinations of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from pydantic import Field, JsonValue

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearConfig, LinearModel, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import Popularity, PopularityConfig
from reclora_kedro.histories.item_facts import ItemFacts
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.parameters import Positive
from reclora_kedro.recommend.config import SECOND_STAGES, CandidateKind, CandidateOrder
from reclora_kedro.recommend.features import LENS, CandidateReader
from reclora_kedro.recommend.finders import BestOfSources, Catalogue, Finder, NearItems, PopularItems, Source
from reclora_kedro.recommend.second_stage import SecondStage
from reclora_kedro.retrievers.base import Retriever
from reclora_kedro.retrievers.index import ItemIndex, UnseenItems
from reclora_kedro.retrievers.reader import RetrieverReader

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


def current_source(
    choice: Choice,
    settings: SourceSettings,
    retriever: Retriever | None,
    lens: Lens | None,
    log: InteractionLog,
    pool: np.ndarray,
) -> Scorer | Finder:
    """Return the scorer of a source fitted to all events of the log, not only to the training split.

    In a catalogue of more than `settings.exact_items`, it is a finder.

    Args:
        pool: indices of all items, most popular first.
    """
    popularity = Popularity(log, choice.popularity)
    neighbours = ItemNeighbours(log, choice.neighbours or settings.neighbours)
    linear = None if choice.linear is None else LinearModel.fit(log, choice.linear, settings.linear)
    reader = None if retriever is None else RetrieverReader(retriever, log)
    scorers = source_scorers(
        popularity.score,
        neighbours.score,
        None if linear is None else linear.score,
        None if reader is None else reader.scorer,
    )
    finders: dict[str, Source] | None = None
    if log.items.height > settings.exact_items:
        unseen = None
        if reader is not None and retriever is not None and choice.kind in READ_RETRIEVER:
            unseen = UnseenItems(reader, ItemIndex.of(retriever))
        finders = source_finders(Catalogue(log.sequences, pool), popularity, neighbours, linear, unseen)
    if choice.kind in scorers:
        return (finders or scorers)[choice.kind]
    logits = lens_scorer(LensReader(lens, log)) if lens is not None and choice.reads_lens else None
    candidates = CandidateReader(log, ItemFacts(log), scorers, logits)
    if finders is not None:
        return BestOfSources(Catalogue(log.sequences, pool), finders, candidates, choice.stage.orders[choice.kind])
    return choice.stage.scorers(candidates)[choice.kind]


def source_finders(
    catalogue: Catalogue,
    popularity: Popularity,
    neighbours: ItemNeighbours,
    linear: LinearModel | None,
    retriever: UnseenItems | None,
) -> dict[str, Source]:
    """Return the finders of the available sources by name, in the order of `source_scorers`."""
    finders: dict[str, Source] = {
        "popularity": PopularItems(catalogue, popularity),
        "neighbours": NearItems(catalogue, once(neighbours.sparse_scores)),
    }
    if linear is not None:
        finders["linear"] = NearItems(catalogue, once(linear.sparse_scores))
    return finders if retriever is None else finders | {"retriever": retriever}


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
