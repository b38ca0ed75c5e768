"""What finds items in a catalogue for the users of any moments: baselines, a retriever, or all of them together."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.baselines.linear import LinearConfig, LinearModel, LinearSettings
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.questions import MOMENT
from reclora_kedro.retrievers.base import Retriever
from reclora_kedro.retrievers.reader import RetrieverReader

NOTES = {
    "retriever": "a next-item model that was trained over the whole catalogue",
    "fusion": "neighbours, linear and, where there is one, retriever, by the sum of their reciprocal ranks",
}
FUSION_CONSTANT = 60  # as Cormack, Clarke and Büttcher have it


@dataclass(frozen=True)
class SourceSettings:
    """The settings of the sources that are fitted where they are needed."""

    neighbours: ItemNeighboursConfig
    linear: LinearConfig


def reads_linear(source: str) -> bool:
    """Whether a source needs the linear model."""
    return source in ("linear", "fusion")


def source_scorers(neighbours: Scorer, linear: Scorer | None, retriever: Scorer | None) -> dict[str, Scorer]:
    """The scorers of the sources that exist, by name, and of their fusion."""
    named = {"neighbours": neighbours, "linear": linear, "retriever": retriever}
    scorers = {source: once(scorer) for source, scorer in named.items() if scorer is not None}
    return scorers | {"fusion": fused(*scorers.values())}


def current_source(
    source: str,
    settings: SourceSettings,
    linear: LinearSettings | None,
    retriever: Retriever | None,
    log: InteractionLog,
) -> Scorer:
    """The scorer of a source that is fitted to all events of the log, not to those of the training split alone."""
    return source_scorers(
        ItemNeighbours(log, settings.neighbours).score,
        None if linear is None else LinearModel.fit(log, linear, settings.linear).score,
        None if retriever is None else RetrieverReader(retriever, log).scorer,
    )[source]


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


def fused(*scorers: Scorer) -> Scorer:
    """Reciprocal rank fusion: the sum over scorers of 1 / (60 + rank of the item among the pairs of its moment).

    After Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods (2009).

    Examples:
        >>> pairs = pl.DataFrame({"user_index": [0] * 3, "history_end": [5] * 3, "timestamp": [9] * 3})
        >>> fused(lambda _: np.array([3, 2, 1]), lambda _: np.array([0, 8, 9]))(pairs).round(4).tolist()
        [0.0323, 0.0323, 0.0323]
    """

    def score(pairs: pl.DataFrame) -> np.ndarray:
        by_scorer = pairs.select(*MOMENT, *(pl.Series(f"of_{i}", scorer(pairs)) for i, scorer in enumerate(scorers)))
        ranks = pl.col("^of_.*$").rank("average", descending=True).over(MOMENT)
        return (1 / (FUSION_CONSTANT + by_scorer.select(ranks).to_numpy())).sum(axis=1)

    return score
