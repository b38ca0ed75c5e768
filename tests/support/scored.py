"""Item models with given scores, and moments of a log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from reclora_kedro.candidates.item_model import ItemModel, Training
from reclora_kedro.candidates.moments import Moments
from reclora_kedro.history.log import InteractionLog


@dataclass(frozen=True, eq=False)
class Scored(ItemModel):
    """Scores by a function from moments to an array, (moments, items)."""

    function: Callable[[Moments], np.ndarray]

    @classmethod
    def fit(cls, training: Training, settings: Any) -> Self:
        raise NotImplementedError  # tests give the scores; nothing is fitted

    def scores(self, moments: Moments) -> np.ndarray:
        return self.function(moments)


class ByItem(Scored):
    """The same scores at every moment, shape (items,)."""

    def __init__(self, values: Any) -> None:
        super().__init__(lambda moments: np.tile(np.asarray(values, dtype=np.float64), (len(moments), 1)))


def moments_of(log: InteractionLog, frame: pl.DataFrame, **rules: Any) -> Moments:
    """Return moments of a log whose equals are in the order of its training events."""
    return Training.from_split(log).moments(frame, **rules)
