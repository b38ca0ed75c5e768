"""Negatives for logs of positive events, such as purchases: items that the user did not take at that moment."""

import logging
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from reclora_kedro.histories.sequences import Sequences, taken_before
from reclora_kedro.parameters import Block, Count

NEIGHBOURS = 1_000  # events around a positive, half of them earlier and half later, whose items `matched` draws
ATTEMPTS = 100  # draws until a positive is given up whose user has taken nearly everything


class NegativesConfig(Block):
    """How many samples with label 0 are drawn for each with label 1, and from where."""

    kind: Literal["none", "matched", "uniform"] = Field(description="none: the log has its own; else see add_negatives")
    per_positive: Count = Field(description="negatives drawn for each positive")


def add_negatives(samples: pl.DataFrame, sequences: Sequences, config: NegativesConfig, seed: int) -> pl.DataFrame:
    """The samples with drawn negatives, each behind its positive, whose user, moment, history and split it shares.

    An item that the user takes at any time is never a negative of theirs. `matched` draws the items of the events
    nearest in time, of all users: they are as popular and as fresh as the positives, so that neither tells the two
    apart. `uniform` draws each item that occurred before the moment with the same probability. A positive for
    which no item is left stays without a negative. Samples of items that their user had taken before are left out:
    their history would tell them from any negative. Their events stay in histories.

    Args:
        samples: positives and, if any, negatives of the log, see `build_samples`.
        sequences: all events.
        config: what to draw.
        seed: of the draw.

    Returns:
        The same columns; rows are numbered anew. How many are left out is logged.

    Examples:
        >>> sequences = Sequences(
        ...     offsets=np.array([0, 1, 2]), item_index=np.array([0, 1], dtype=np.int32), rating=np.ones(2),
        ...     rating_level=np.zeros(2), label=np.ones(2), timestamp=np.array([10, 20]),
        ... )
        >>> samples = pl.DataFrame({"user_index": [0, 1], "item_index": [0, 1], "event": [0, 1],
        ...     "timestamp": [10, 20], "label": [1, 1], "history_end": [0, 1]}).with_row_index("row")
        >>> config = NegativesConfig(kind="matched", per_positive=1)
        >>> add_negatives(samples, sequences, config, seed=0).select("row", "user_index", "item_index", "label").rows()
        [(0, 0, 0, 1), (1, 0, 1, 0), (2, 1, 1, 1), (3, 1, 0, 0)]
    """
    if config.kind == "none":
        return samples
    if (again := taken_before(samples, sequences)).any():
        logging.getLogger(__name__).warning(
            "%s of %s rows are of items that their user had taken before: they stay in histories, but are no samples, "
            "as no drawn negative is such an item.",
            f"{again.sum():,}",
            f"{len(again):,}",
        )
        samples = samples.filter(~again)
    positives = samples.filter(pl.col("label") == 1)
    random = np.random.default_rng(seed)
    pool = _MatchedItems(sequences, random) if config.kind == "matched" else _KnownItems(sequences, random)
    drawn = _draw(positives, sequences, pool, config.per_positive)
    negatives = [
        positives.with_columns(
            item_index=pl.Series(items, dtype=samples.schema["item_index"]),
            label=pl.lit(0, dtype=samples.schema["label"]),
        ).filter(items >= 0)
        for items in drawn
    ]
    together = pl.concat([samples, *negatives]).sort("row", maintain_order=True)
    return together.drop("row").with_row_index("row")


class _MatchedItems:
    """Items of the events nearest in time."""

    def __init__(self, sequences: Sequences, random: np.random.Generator) -> None:
        self._random = random
        # Events of one second are in random order: the sequences have them by user.
        order = np.lexsort((random.random(len(sequences.timestamp)), sequences.timestamp))
        self._items = sequences.item_index[order]
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))

    def propose(self, positives: pl.DataFrame) -> np.ndarray:
        """An item for each positive, shape (n,)."""
        window = min(NEIGHBOURS, len(self._items))
        first = np.clip(self._place[positives["event"].to_numpy()] - window // 2, 0, len(self._items) - window)
        return self._items[first + self._random.integers(window, size=positives.height)]


class _KnownItems:
    """Items that occurred before."""

    def __init__(self, sequences: Sequences, random: np.random.Generator) -> None:
        self._random = random
        order = np.argsort(sequences.timestamp, kind="stable")
        self._items, first = np.unique(sequences.item_index[order], return_index=True)
        by_time = np.argsort(first)
        self._items, self._first_seconds = self._items[by_time], sequences.timestamp[order[first[by_time]]]

    def propose(self, positives: pl.DataFrame) -> np.ndarray:
        """An item for each positive, shape (n,); the positive's own, which is never taken, where none occurred."""
        known = np.searchsorted(self._first_seconds, positives["timestamp"].to_numpy())
        proposed = self._items[(self._random.random(len(known)) * known).astype(np.int64)]
        return np.where(known > 0, proposed, positives["item_index"].to_numpy())


def _draw(
    positives: pl.DataFrame, sequences: Sequences, pool: _MatchedItems | _KnownItems, count: int
) -> list[np.ndarray]:
    """Items for each positive, different ones: `count` arrays of shape (positives,), -1 where none was found."""
    items = int(sequences.item_index.max()) + 1
    users = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    taken = np.unique(users * items + sequences.item_index)
    drawn: list[np.ndarray] = []
    for _ in range(count):
        chosen, missing = np.full(positives.height, -1), np.arange(positives.height)
        for _ in range(ATTEMPTS):
            asked = positives[missing]
            proposed = pool.propose(asked)
            key = asked["user_index"].to_numpy().astype(np.int64) * items + proposed
            unfit = taken[np.searchsorted(taken, key).clip(max=len(taken) - 1)] == key
            for earlier in drawn:
                unfit |= earlier[missing] == proposed
            chosen[missing[~unfit]] = proposed[~unfit]
            missing = missing[unfit]
            if not len(missing):
                break
        drawn.append(chosen)
    return drawn
