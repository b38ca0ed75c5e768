"""Negatives for logs of positive events, such as purchases: items that the user did not take at that moment."""

import logging
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
import polars as pl

from reclora_kedro.histories.taken_items import TakenItems
from reclora_kedro.parameters import Block, Count

NEIGHBOURS = 1_000  # events around a positive, half of them earlier and half later, whose items `matched` draws
NO_TIME = np.iinfo(np.int64).max  # later than every event
ATTEMPTS = 100  # draws until a positive is given up whose user has taken nearly everything


class NegativesConfig(Block):
    """How many samples with label 0 are drawn for each with label 1, and from where."""

    kind: Literal["none", "matched", "uniform"]
    per_positive: Count


@dataclass(frozen=True)
class Pool:
    """What negatives are drawn from, in the order of time."""

    items: np.ndarray  # of every event (matched), or every item once, at its first event (uniform)
    seconds: np.ndarray  # of these, ascending

    @classmethod
    def from_events(cls, items: np.ndarray, seconds: np.ndarray, kind: str) -> Self:
        """The pool of events, in any order."""
        if kind == "uniform":
            first = np.full(int(items.max()) + 1, NO_TIME)
            np.minimum.at(first, items, seconds)
            items, seconds = np.arange(len(first)), first
        order = np.argsort(seconds, kind="stable")
        return cls(items[order], seconds[order])

    def propose(self, positives: pl.DataFrame, kind: str, stream: tuple[int, ...]) -> np.ndarray:
        """An item for each positive, shape (n,); the positive's own, which is never taken, where there is none."""
        seconds, chance = positives["timestamp"].to_numpy(), _uniform(positives["event"].to_numpy(), *stream, 0)
        earlier = np.searchsorted(self.seconds, seconds)
        if kind == "uniform":
            proposed = self.items[(chance * earlier).astype(np.int64)]
            return np.where(earlier > 0, proposed, positives["item_index"].to_numpy())
        # Events of one second have no order, so that the positive may be any of them.
        same = np.searchsorted(self.seconds, seconds, side="right") - earlier
        place = earlier + (_uniform(positives["event"].to_numpy(), *stream, 1) * same).astype(np.int64)
        window = min(NEIGHBOURS, len(self.items))
        first = np.clip(place - window // 2, 0, len(self.items) - window)
        return self.items[first + (chance * window).astype(np.int64)]


def draw_negatives(
    samples: pl.DataFrame, pool: Pool, taken: TakenItems, config: NegativesConfig, seed: int
) -> pl.DataFrame:
    """The samples that stay, then a negative for each positive among them, with its user, moment, history and split.

    An item that the user takes at any time is never a negative of theirs. `matched` draws the items of the events
    nearest in time, of all users: they are as popular and as fresh as the positives, so that neither tells the two
    apart. `uniform` draws each item that occurred before the moment with the same probability. A positive for
    which no item is left stays without a negative. Samples of items that their user had taken before are left out:
    their history would tell them from any negative. Their events stay in histories.

    What is drawn for a positive depends on the seed, the pool and its event alone, and not on the other samples. Where
    samples have a `row`, a negative has that of its positive.

    Args:
        samples: positives and, if any, negatives of the log, see `log_builder.build_log`.
        pool: what to draw from.
        taken: the items that the users of the samples take.
        config: what to draw.
        seed: of the draw.

    Examples:
        >>> items, seconds = np.array([0, 1]), np.array([10, 20])
        >>> samples = pl.DataFrame({"user_index": [0, 1], "item_index": [0, 1], "event": [0, 1],
        ...     "timestamp": [10, 20], "label": [1, 1], "history_end": [0, 1]})
        >>> pool = Pool.from_events(items, seconds, "matched")
        >>> taken = TakenItems(np.array([0, 1, 2]), np.array([0, 1 << 32 | 1]), np.array([0, 0]))
        >>> config = NegativesConfig(kind="matched", per_positive=1)
        >>> draw_negatives(samples, pool, taken, config, seed=0).select("user_index", "item_index", "label").rows()
        [(0, 0, 1), (1, 1, 1), (0, 1, 0), (1, 0, 0)]
    """
    samples = samples.filter(~taken.before(samples))
    positives = samples.filter(label=1)
    together = [samples]
    drawn: list[np.ndarray] = []
    for number in range(config.per_positive):
        items = _draw(positives, pool, taken, drawn, config.kind, (seed, number))
        negatives = positives.with_columns(
            item_index=pl.Series(items, dtype=samples.schema["item_index"]),
            label=pl.lit(0, dtype=samples.schema["label"]),
        )
        together.append(negatives.filter(items >= 0))
        drawn.append(items)
    return pl.concat(together)


def warn_of_left_out(left_out: int, samples: int) -> None:
    """Say how many of the samples were left out, if any were."""
    if left_out:
        logging.getLogger(__name__).warning(
            f"{left_out:,} of {samples:,} rows are of items that their user had taken before: they stay in histories, "
            "but are no samples, as no drawn negative is such an item."
        )


def _draw(
    positives: pl.DataFrame,
    pool: Pool,
    taken: TakenItems,
    earlier: list[np.ndarray],
    kind: str,
    stream: tuple[int, ...],
) -> np.ndarray:
    """An item for each positive, other than those drawn earlier: shape (positives,), -1 where there is none."""
    positives = positives.select("user_index", "item_index", "event", "timestamp")
    chosen, missing = np.full(positives.height, -1), np.arange(positives.height)
    for attempt in range(ATTEMPTS):
        without = positives[missing]
        proposed = pool.propose(without, kind, (*stream, attempt))
        unfit = taken.ever(without["user_index"].to_numpy(), proposed)
        for items in earlier:
            unfit |= items[missing] == proposed
        chosen[missing[~unfit]] = proposed[~unfit]
        missing = missing[unfit]
        if not len(missing):
            break
    return chosen


def _uniform(events: np.ndarray, *stream: int) -> np.ndarray:
    """A number from 0 until below 1 for each event, which depends on it and on the numbers of the stream alone."""
    start = np.random.SeedSequence(stream).generate_state(1, np.uint64)
    bits = pd.util.hash_array(events.astype(np.uint64) + start)  # the finaliser of SplitMix64, which is a bijection
    return (bits >> np.uint64(11)) * 2.0**-53
