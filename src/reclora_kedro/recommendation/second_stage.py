"""The second stage: an order of the best items of several sources, trained on validation likes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Self

import numpy as np
import plotly.graph_objects as go
import polars as pl

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.evaluation.figures import plot_second_stage
from reclora_kedro.recommendation import fusion, ranker
from reclora_kedro.recommendation.features import CandidateReader, read_lists


class SecondStage(Block):
    """Trained parameters of the second stage."""

    weights: Mapping[str, float] | None = None  # of the features, for `fusion`; None for equal weights of all ranks
    trees: str | None = None  # LightGBM's text of what `ranker` adds to the fusion's scores; None to add nothing

    @classmethod
    def learned(cls, reader: CandidateReader, blocks: Iterable[pl.DataFrame], likes: pl.DataFrame, seed: int) -> Self:
        """Train on likes, see `read_lists`; parameters are None if no source finds any of them."""
        lists = read_lists(reader, blocks, likes)
        if lists is None:
            return cls()
        weights = fusion.learn_weights(lists)
        return cls(weights=weights, trees=ranker.learn_trees(lists, fusion.score(lists.features, weights), seed))

    def figure(self) -> go.Figure:
        """Draw the gain of the trees by feature, and the weights."""
        return plot_second_stage({} if self.trees is None else ranker.importance(self.trees), self.weights or {})

    def score(self, features: pl.DataFrame) -> np.ndarray:
        """Return the scores of candidates by the ranker, see `Candidates`: shape (candidates,)."""
        base = fusion.score(features, self.weights)
        return base if self.trees is None else base + ranker.score(features, self.trees)

    @property
    def orders(self) -> dict[str, Callable[[pl.DataFrame], np.ndarray]]:
        """Functions from the features of candidates to their scores, by the name of the source."""
        return {"fusion": lambda features: fusion.score(features, self.weights), "ranker": self.score}

    def scorers(self, reader: CandidateReader) -> dict[str, Scorer]:
        """Return the scorers of pairs that order the sources' best items, by name; all other items come last."""
        return {name: _scorer(reader, order) for name, order in self.orders.items()}


def _scorer(reader: CandidateReader, order: Callable[[pl.DataFrame], np.ndarray]) -> Scorer:
    def score(pairs: pl.DataFrame) -> np.ndarray:
        candidates = reader.read(pairs)
        candidate_scores = order(candidates.features)
        scores = np.full(pairs.height, candidate_scores.min(initial=0) - 1)
        scores[candidates.places] = candidate_scores
        return scores

    return score
