"""What finds items in a catalogue for the users of any moments: baselines, a retriever, or all of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearConfig, LinearModel, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommend.config import CandidateKind, CandidateOrder
from reclora_kedro.recommend.fusion import Fusion
from reclora_kedro.retrievers.base import Retriever
from reclora_kedro.retrievers.reader import RetrieverReader

NOTES = {
    "retriever": "a next-item model that was trained over the whole catalogue",
    "fusion": "the sources' best items, by the logarithms of their ranks and the lens, weighted by validation likes",
}


@dataclass(frozen=True)
class SourceSettings:
    """The settings of the sources that are fitted where they are needed."""

    neighbours: ItemNeighboursConfig
    linear: LinearConfig


class Choice(NamedTuple):
    """How candidates are found.

    Attributes:
        kind: where they come from.
        order: what puts them in order.
        linear: the settings of the linear model, where the kind reads it.
        weights: of the fusion, where it is the kind; None: equal ones.
        compared: what likes of the validation split chose by, empty where they did not.
    """

    kind: CandidateKind
    order: CandidateOrder
    linear: LinearSettings | None = None
    weights: Mapping[str, float] | None = None
    compared: Sequence[dict[str, Any]] = ()


def reads_linear(source: str) -> bool:
    """Whether a source needs the linear model."""
    return source in ("linear", "fusion")


def source_scorers(neighbours: Scorer, linear: Scorer | None, retriever: Scorer | None) -> dict[str, Scorer]:
    """The scorers of the sources that exist, by name, which score the same table once, see `once`."""
    named = {"neighbours": neighbours, "linear": linear, "retriever": retriever}
    return {source: once(scorer) for source, scorer in named.items() if scorer is not None}


def with_fusion(
    scorers: Mapping[str, Scorer], weights: Mapping[str, float] | None, lens: Scorer | None
) -> dict[str, Scorer]:
    """The scorers of sources, and of their fusion."""
    return {**scorers, "fusion": Fusion(scorers, weights, lens).score}


def current_source(
    choice: Choice, settings: SourceSettings, retriever: Retriever | None, lens: Lens | None, log: InteractionLog
) -> Scorer:
    """The scorer of a source that is fitted to all events of the log, not to those of the training split alone.

    Args:
        choice: of the source and, where it needs them, the settings of the linear model and the weights of the fusion.
        settings: of the sources.
        retriever: a frozen retriever, where the source needs it.
        lens: a frozen lens, where the fusion gives it a weight.
        log: the log.
    """
    scorers = source_scorers(
        ItemNeighbours(log, settings.neighbours).score,
        None if choice.linear is None else LinearModel.fit(log, choice.linear, settings.linear).score,
        None if retriever is None else RetrieverReader(retriever, log).scorer,
    )
    logits = None if lens is None else lens_scorer(LensReader(lens, log))
    return with_fusion(scorers, choice.weights, logits)[choice.kind]


def lens_scorer(reader: LensReader) -> Scorer:
    """The logits of a lens."""
    return lambda pairs: reader.logits(pairs).numpy()


def once(scorer: Scorer) -> Scorer:
    """The scorer, which scores a table of pairs once when asked about the very same one several times in a row."""
    last: tuple[pl.DataFrame, np.ndarray] | None = None

    def score(pairs: pl.DataFrame) -> np.ndarray:
        nonlocal last
        scored = last  # threads of a service may ask at once
        if scored is None or scored[0] is not pairs:
            last = scored = pairs, scorer(pairs)
        return scored[1]

    return score
