"""Popularity: items rank by their number of events, for every user alike."""

import numpy as np
import polars as pl

from reclora_kedro.baselines.base import Scorer
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import TimeLog

NOTE = "events of the item before the moment"
STYLE = Style("#9C755F", "hexagon", "longdash")


def scorer(log: InteractionLog) -> Scorer:
    return Popularity(log).score


class Popularity:
    """Events of items up to a moment; training events count at any moment, as for a lens."""

    def __init__(self, log: InteractionLog) -> None:
        events, training = log.sequences, log.training_events()
        self.in_training = np.bincount(events.item_index[training], minlength=log.items.height)
        self._others = TimeLog(events.item_index[~training], events.timestamp[~training])

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the training events, and those before the pair's second, of each pair's item: shape (n,)."""
        item = pairs["item_index"].to_numpy()
        first, last = self._others.range_before(item, pairs["timestamp"].to_numpy())
        return self.in_training[item] + last - first

    def information(self) -> np.ndarray:
        """Return -log2 of each item's smoothed share of the training events (bits): shape (items,)."""
        counts = self.in_training + 1
        return -np.log2(counts / counts.sum())
