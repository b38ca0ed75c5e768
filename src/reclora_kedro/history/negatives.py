"""Negatives for logs of positive events, such as purchases: items that the user did not take at that moment."""

import logging
from dataclasses import dataclass

import numpy as np
import polars as pl

from reclora_kedro.history.config import NegativesConfig
from reclora_kedro.history.taken_items import TakenItems

NEIGHBOURS = 20  # next likes whose items `matched` draws; twice as many after each draw that does not fit
NO_TIME = np.iinfo(np.int64).max  # later than every event
ATTEMPTS = 100  # draws until a positive is given up whose user has taken nearly everything


@dataclass(frozen=True)
class Pool:
    """Items that the negatives of a split are drawn from, in the order of time, and exclusions."""

    items: np.ndarray  # of its likes that are samples (matched), or every item once, at its first event (uniform)
    seconds: np.ndarray  # of these, ascending
    ends: np.ndarray  # flat index behind each user's events until the split's end, shape (users,)

    def places(self, events: np.ndarray, seconds: np.ndarray, kind: str, stream: tuple[int, ...]) -> np.ndarray:
        """Return the number of items before each positive, shape (n,); likes of its own second in random order."""
        earlier = np.searchsorted(self.seconds, seconds)
        if kind == "uniform":
            return earlier
        same = np.searchsorted(self.seconds, seconds, side="right") - earlier
        return earlier + (_uniform(events, *stream) * same).astype(np.int64)

    def propose(self, places: np.ndarray, chance: np.ndarray, kind: str, attempt: int) -> np.ndarray:
        """Propose an item for each place, shape (n,); -1 if there is none."""
        if kind == "uniform":
            return np.where(places > 0, self.items[(chance * places).astype(np.int64)], -1)
        window = min(NEIGHBOURS * 2**attempt, len(self.items))
        return self.items[np.minimum(places, len(self.items) - window) + (chance * window).astype(np.int64)]


def first_events(items: np.ndarray, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Return the items and seconds of the `Pool` of kind `uniform`, from all events in any order."""
    first = np.full(int(items.max()) + 1, NO_TIME)
    np.minimum.at(first, items, seconds)
    order = np.argsort(first, kind="stable")
    return {"items": order, "seconds": first[order]}


def draw_negatives(
    samples: pl.DataFrame, pools: dict[str, Pool], taken_items: TakenItems, config: NegativesConfig, seed: int
) -> pl.DataFrame:
    """Return the remaining samples and a negative for each positive, with its user, moment, history and split.

    An item that the user takes until the split ends is never their negative; one that they take in a later split may
    be, as the training must not know that. `matched` draws the items of the next likes of the split, of all users:
    either is an item about to be taken, of which no event of that moment counts yet, so that neither the time since the
    item's last event nor the number of its events tells the two apart, see `check_negatives`. `uniform` draws each item
    that occurred before the moment with the same probability. A positive for which no item is left stays without a
    negative. Samples of items that their user had taken before are left out, as their history would distinguish them
    from any negative; their events stay in histories.

    The draw for a positive depends on the seed, the pool and its event only, not on other samples. If samples have a
    `row`, a negative has that of its positive.

    Examples:
        >>> samples = pl.DataFrame({"user_index": [0, 1], "item_index": [0, 1], "event": [0, 1],
        ...     "timestamp": [10, 20], "label": [1, 1], "history_end": [0, 1], "split": ["train", "train"]})
        >>> pool = Pool(items=np.array([0, 1]), seconds=np.array([10, 20]), ends=np.array([1, 2]))
        >>> taken_items = TakenItems(np.array([0, 1, 2]), np.array([0, 1 << 32 | 1]), np.array([0, 0]))
        >>> config = NegativesConfig(kind="matched", per_positive=1)
        >>> drawn = draw_negatives(samples, {"train": pool}, taken_items, config, seed=0)
        >>> drawn.select("user_index", "item_index", "label").rows()
        [(0, 0, 1), (1, 1, 1), (0, 1, 0), (1, 0, 0)]
    """
    samples = samples.filter(~taken_items.before(samples))
    together = [samples]
    for split, pool in pools.items():
        positives, drawn = samples.filter(label=1, split=split), list[np.ndarray]()
        for number in range(config.per_positive):
            items = _draw(positives, pool, taken_items, drawn, config.kind, (seed, number))
            negatives = positives.with_columns(
                item_index=pl.Series(items, dtype=samples.schema["item_index"]),
                label=pl.lit(0, dtype=samples.schema["label"]),
            )
            together.append(negatives.filter(items >= 0))
            drawn.append(items)
    return pl.concat(together)


def warn_of_left_out(left_out: int, samples: int) -> None:
    if left_out:
        logging.getLogger(__name__).warning(
            f"{left_out:,} of {samples:,} rows are of items that their user had taken before: they stay in histories, "
            "but are no samples, as no drawn negative is such an item."
        )


def _draw(
    positives: pl.DataFrame,
    pool: Pool,
    taken_items: TakenItems,
    earlier: list[np.ndarray],
    kind: str,
    stream: tuple[int, ...],
) -> np.ndarray:
    """Draw an item for each positive, other than the earlier draws: shape (positives,), -1 if there is none."""
    users, events, seconds = (positives[name].to_numpy() for name in ("user_index", "event", "timestamp"))
    places, ends = pool.places(events, seconds, kind, stream), pool.ends[users]
    chosen, missing = np.full(len(events), -1), np.arange(len(events) if len(pool.items) else 0)
    for attempt in range(ATTEMPTS):
        if not len(missing):
            break
        chance = _uniform(events[missing], *stream, attempt)
        proposed = pool.propose(places[missing], chance, kind, attempt)
        unfit = taken_items.until(ends[missing], users[missing], proposed) | (proposed < 0)
        for items in earlier:
            unfit |= items[missing] == proposed
        chosen[missing[~unfit]] = proposed[~unfit]
        missing = missing[unfit]
    return chosen


def _uniform(events: np.ndarray, *stream: int) -> np.ndarray:
    import pandas as pd

    start = np.random.SeedSequence(stream).generate_state(1, np.uint64)
    bits = pd.util.hash_array(events.astype(np.uint64) + start)  # the finaliser of SplitMix64, which is a bijection
    return (bits >> np.uint64(11)) * 2.0**-53
