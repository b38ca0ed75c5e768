"""Which user took which item, and since when."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.sequences import Sequences, edges_of_blocks, places_of, user_of_events

BEHIND_ALL = np.iinfo(np.int32).max  # a place behind every event
EVENTS_AT_ONCE = 2**22  # about so many are sorted together


class Rules(NamedTuple):
    """Rules of all lists."""

    repeat: bool = False  # whether items that the user took may be recommended again
    excluded: np.ndarray = np.array([], dtype=np.int32)  # indices of items that nobody gets


NEW_ITEMS = Rules()  # the usual rules: any item that is new to its user


@dataclass(frozen=True)
class TakenItems:
    """The events of all users in the order of user, item and time."""

    offsets: np.ndarray  # those of the sequences, shape (users + 1,)
    pairs: np.ndarray  # int64, shape (events,): user and item of each event, see `pair_of`
    places: np.ndarray  # int32, shape (events,): how many events of its user come before each

    @classmethod
    def from_sequences(cls, sequences: Sequences) -> Self:
        """Sort the events of all users.

        Examples:
            >>> sequences = Sequences.from_columns(np.array([0, 3]), item_index=np.array([5, 8, 5]))
            >>> is_taken = TakenItems.from_sequences(sequences)
            >>> is_taken.until(np.array([1, 1, 2]), np.array([0, 0, 0]), np.array([5, 8, 8]))
            array([ True, False,  True])
            >>> samples = pl.DataFrame({"user_index": [0, 0], "item_index": [5, 5], "history_end": [0, 2]})
            >>> is_taken.before(samples)
            array([False,  True])
        """
        users = len(sequences.offsets) - 1
        return cls(sequences.offsets, *sorted_pairs(sequences.offsets, sequences.item_index, 0, users))

    def until(self, ends: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return whether each user's events before a flat index contain the item: shape (n,)."""
        pairs = pair_of(users, items)
        first = np.searchsorted(self.pairs, pairs).clip(max=len(self.pairs) - 1)
        return np.where(self.pairs[first] == pairs, self.places[first], BEHIND_ALL) < ends - self.offsets[users]

    def before(self, samples: pl.DataFrame) -> np.ndarray:
        """Return whether the history of each sample contains its item: shape (samples,)."""
        return self.until(*(samples[name].to_numpy() for name in ("history_end", "user_index", "item_index")))


def taken_before(sequences: Sequences, samples: pl.DataFrame) -> np.ndarray:
    """Return whether the history of each sample contains its item, a block of users at a time: shape (samples,).

    Examples:
        >>> sequences = Sequences.from_columns(np.array([0, 3]), item_index=np.array([5, 8, 5]))
        >>> samples = pl.DataFrame({"user_index": [0, 0], "item_index": [5, 5], "history_end": [2, 0]})
        >>> taken_before(sequences, samples)
        array([ True, False])
    """
    user, is_taken = samples["user_index"].to_numpy(), np.empty(samples.height, dtype=bool)
    edges, by_user = edges_of_blocks(sequences.offsets, EVENTS_AT_ONCE), np.argsort(user, kind="stable")
    blocks = np.split(by_user, np.searchsorted(user[by_user], edges[1:-1]))
    for rows, (first, last) in zip(blocks, pairwise(edges.tolist()), strict=False):  # without users, one has no pair
        if len(rows):
            block = TakenItems(sequences.offsets, *sorted_pairs(sequences.offsets, sequences.item_index, first, last))
            is_taken[rows] = block.before(samples[rows])
    return is_taken


def sorted_pairs(offsets: np.ndarray, item_index: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs and places of the users `first:last`, see `TakenItems`, from arrays of the sequences."""
    own = offsets[first : last + 1] - offsets[first]
    users = user_of_events(own)
    pairs = pair_of(first + users, item_index[offsets[first] : offsets[last]])
    order = np.argsort(pairs, kind="stable")
    return pairs[order], (order - own[users[order]]).astype(np.int32)


def pair_of(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Combine user and item in one int64, which sorts by user and then by item."""
    return users.astype(np.int64) << 32 | items


def draw_positives(
    log: InteractionLog, split: str, rows: int | None, seed: int, rules: Rules = NEW_ITEMS
) -> pl.DataFrame:
    """Draw likes of a split, in the order of the samples: row, item_index and the columns of `MOMENT`.

    Items that the user took before are left out, as they would stand out among candidates that are new to the user,
    unless they may be recommended again. So are excluded items. Draws are uniform; a larger number of rows
    keeps those of a smaller one; None keeps all.
    """
    liked = _likes(log, split) if rules.repeat else _new_likes(log, split)
    if rules.repeat and log.repeats is not None:
        liked = pl.concat([liked, log.repeats.filter(split=split).select(liked.columns)])
    if len(rules.excluded):
        liked = liked.filter(~np.isin(liked["item_index"].to_numpy(), rules.excluded))
    return liked[np.sort(np.random.default_rng([seed, 1]).permutation(liked.height)[:rows])]


def validation_likes(log: InteractionLog, rows: int | None, seed: int) -> pl.DataFrame:
    """Return at most `rows` random validation likes of items new to a nonempty history: item_index and `MOMENT`."""
    new = _new_likes(log, "validation").drop("row")
    likes = new.filter(new["history_end"].to_numpy() > log.sequences.starts[new["user_index"].to_numpy()])
    if likes.is_empty():
        count = log.samples_in("validation", "label")["label"].sum()
        raise Fault(
            "The validation split",
            f"has {count} likes, but none of an item that is new to a user with earlier events, so there is nothing to "
            "choose an epoch by",
            "a log whose users have one item, or one second, has no sequences",
            ("Change ", Parameter("history.split"), ", or rank by item_knn or popularity"),
        )
    return likes[np.sort(np.random.default_rng(seed).permutation(likes.height)[:rows])]


def _likes(log: InteractionLog, split: str) -> pl.DataFrame:
    return log.samples_in(split, "row", "item_index", *MOMENT, "label").filter(label=1).drop("label")


def _new_likes(log: InteractionLog, split: str) -> pl.DataFrame:
    """Return the likes of a split of items that are new to their users: row, item_index and `MOMENT`."""
    likes = _likes(log, split)
    return likes.filter(~taken_before(log.sequences, likes))


def latest_events(sequences: Sequences, moments: pl.DataFrame, items: int, limit: int, recency: float) -> csr_array:
    """Return the latest events of users at some moments, weighted by recency: float32, shape (moments, items).

    `moments` have user_index and history_end, and `limit` bounds the events per user. `recency` is the weight of an
    event relative to the next later one; events of one second share the weight at their mean number of later events.
    Where the log declares weights, an event counts as much besides.
    """
    user, end = (moments[name].to_numpy() for name in ("user_index", "history_end"))
    start = np.maximum(sequences.starts[user], end - limit)
    # Indices of 4 bytes, as weights of items have: a product of unequal ones copies all of one of them.
    event, moment = places_of(start, end), np.repeat(np.arange(len(end), dtype=np.int32), end - start)
    is_new = (np.diff(moment, prepend=-1) != 0) | (np.diff(sequences.timestamp[event], prepend=-1) != 0)
    second = is_new.cumsum() - 1
    events_after = np.repeat(end, end - start) - 1 - event
    weight = recency ** (np.bincount(second, events_after) / np.bincount(second))[second]
    weight, own = weight.astype(np.float32), sequences.weights(event)
    entries = weight if own is None else weight * own, (moment, sequences.item_index[event])
    return csr_array(entries, shape=(len(end), items))
