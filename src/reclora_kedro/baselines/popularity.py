"""Popularity: all users get items by their number of events."""

import logging
from collections.abc import Iterator

import numpy as np
import polars as pl

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer, ndcg_of_settings
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.sequences import TimeLog
from reclora_kedro.history.taken_items import draw_positives, latest_events
from reclora_kedro.parameters import Count, Positive, Seed

logger = logging.getLogger(__name__)

NOTE = "events of the item before the moment, in all or in a window that validation likes choose"
SECONDS_PER_DAY = 86_400
STYLE = Style("#9C755F", "hexagon", "longdash")


class PopularityConfig(Block):
    """Windows to try for popularity."""

    days: tuple[Positive, ...]
    validation_likes: Count
    seed: Seed


def scorer(log: InteractionLog, config: PopularityConfig) -> Scorer:
    """Return the popularity in the window, or in all time, that ranks validation likes best, see `chosen`."""
    return Popularity(log, chosen(log, config)).score


def chosen(log: InteractionLog, config: PopularityConfig) -> float | None:
    """Return the days of the window that ranks validation likes best, by NDCG@10; None for all time."""
    if not config.days:
        return None
    likes = draw_positives(log, "validation", None, config.validation_likes, config.seed)
    if likes.is_empty():
        return None
    items, target = log.items.height, likes["item_index"].to_numpy()
    seen = latest_events(log.sequences, likes, items, len(log.sequences.timestamp), 1)
    every = pl.DataFrame({"item_index": np.arange(items)})
    models = {days: Popularity(log, days) for days in (None, *config.days)}

    def scores(rows: slice) -> Iterator[tuple[float | None, np.ndarray]]:
        pairs = likes[rows].select(*MOMENT).join(every, how="cross")
        for days, model in models.items():
            yield days, model.score(pairs).reshape(-1, items)

    tried = ndcg_of_settings(scores, seen, target)
    best = max(tried, key=tried.__getitem__)
    logger.info("Popularity: %s", "of all time" if best is None else f"of the last {best:g} days")
    return best


class Popularity:
    """Numbers of events of items up to a moment.

    Args:
        days: length of the window before the moment, or before the end of the log if that is earlier; None for all
            time, in which training events count at any moment, as for a lens.

    Attributes:
        after: second after the last event, from which on scores stay the same.
    """

    def __init__(self, log: InteractionLog, days: float | None = None) -> None:
        events, training = log.sequences, log.training_events()
        self._days, self._events = days, None if days is None else TimeLog(events.item_index, events.timestamp)
        self.in_training = np.bincount(events.item_index[training], minlength=log.items.height)
        self.after, self._most = events.timestamp.max(initial=0) + 1, len(events.timestamp) + 1
        self._others = TimeLog(events.item_index[~training], events.timestamp[~training])

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the number of events of each pair's item before the pair's second: shape (n,).

        Among items with equal numbers in a window, one with more events before it has the greater fraction.
        """
        item, now = pairs["item_index"].to_numpy(), pairs["timestamp"].to_numpy()
        if self._events is not None and self._days is not None:
            now = np.minimum(now, self.after)
            begin = self._events.range_before(item, (now - self._days * SECONDS_PER_DAY).astype(np.int64))[1]
            first, last = self._events.range_before(item, now)
            return last - begin + (last - first) / self._most
        first, last = self._others.range_before(item, now)
        return self.in_training[item] + last - first

    def information(self) -> np.ndarray:
        """Return -log2 of each item's smoothed share of the training events (bits): shape (items,)."""
        counts = self.in_training + 1
        return -np.log2(counts / counts.sum())
