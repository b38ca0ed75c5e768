"""Popularity: the more events an item has had, the higher it ranks, whoever the user is."""

import numpy as np
import polars as pl

from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.rivals.base import Scorer

NOTE = "events of the item before the moment"
STYLE = Style("#9C755F", "hexagon", "longdash")


def scorer(log: InteractionLog) -> Scorer:
    """Events of the items of pairs."""
    return Popularity(log).score


class Popularity:
    """Events of items up to a moment; `training_events` count at any moment, as a lens knows them.

    Args:
        log: the log, its samples with a split.
    """

    def __init__(self, log: InteractionLog) -> None:
        events = log.sequences
        training = training_events(log)
        self.in_training = np.bincount(events.item_index[training], minlength=log.items.height)
        self._first = events.timestamp.min()
        self._seconds = np.int64(events.timestamp.max() - self._first + 2)
        self._others = np.sort(self._key(events.item_index[~training], events.timestamp[~training]))

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Training events, and those before the pair's second, of each pair's item: shape (n,)."""
        item, moment = pairs["item_index"].to_numpy(), pairs["timestamp"].to_numpy()
        first, last = (
            np.searchsorted(self._others, self._key(item, until))
            for until in (np.full_like(moment, self._first), moment)
        )
        return self.in_training[item] + last - first

    def information(self) -> np.ndarray:
        """-log2 of each item's share of the training events (bits), with one more counted of each: shape (items,)."""
        counts = self.in_training + 1
        return -np.log2(counts / counts.sum())

    def _key(self, item: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
        return item.astype(np.int64) * self._seconds + np.clip(timestamp - self._first, 0, self._seconds - 1)


def training_events(log: InteractionLog) -> np.ndarray:
    """Whether each event is known to what learns from the training split: shape (events,).

    Those are the events until the last training sample, but for those that are samples of another split.
    """
    held_out = log.samples.filter(pl.col("split") != "train")["event"].drop_nulls().to_numpy()
    known = log.sequences.timestamp <= (log.samples.filter(split="train")["timestamp"].max() or 0)
    known[held_out] = False
    return known
