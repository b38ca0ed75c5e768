"""Transitions: how often users take one item soon after another."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from reclora_kedro.history.sequences import Sequences, edges_of_blocks

EVENTS_AT_ONCE = 2**23  # of whole users, whose pairs are counted together: 1 GiB
MOST_OF_ITEM = 2000  # weights of each item, the greatest; in a large catalogue, popular items would have most others
MOST_PLACES = 64  # apart, of events that are compared: a moment of more events would have too many pairs


class Follows(NamedTuple):
    """How often users take one item after another, float64, each of shape (items, items)."""

    later: csr_array  # weights of items taken in later moments (columns) than those of the rows
    together: csr_array  # numbers of pairs of one moment, in both directions


def follows(sequences: Sequences, usable: np.ndarray, items: int, window: int, decay: float) -> Follows:
    """Return how often users take an item soon after another.

    An event at which a user took j, d moments after one at which they took i, counts ``decay^(d - 1)``. Events of one
    second are one moment without an order: pairs of them count 1. Where the log declares weights, a pair counts as much
    as both events together, by their product.
    Events that are `usable`, (events,), and at most `window` moments apart count.
    """
    later = together = csr_array((items, items), dtype=np.float64)
    for first, last in pairwise(edges_of_blocks(sequences.offsets, EVENTS_AT_ONCE).tolist()):
        offsets = sequences.offsets[first : last + 1]
        event = offsets[0] + np.flatnonzero(usable[offsets[0] : offsets[-1]])
        user, second = np.searchsorted(offsets, event, side="right"), sequences.timestamp[event]
        item, own = sequences.item_index[event], sequences.weights(event)
        first, next_, apart = _pairs(user, second, item, window)
        weight = np.ones(len(apart), dtype=np.float32) if own is None else own[first] * own[next_]
        of_later, earlier, after = apart > 0, item[first], item[next_]
        decayed = np.float32(decay) ** (apart[of_later] - 1) * weight[of_later]
        later = later + csr_array((decayed, (earlier[of_later], after[of_later])), shape=later.shape)
        one, other = earlier[~of_later], after[~of_later]
        pairs = np.concatenate([one, other]), np.concatenate([other, one])
        together = together + csr_array((np.tile(weight[~of_later], 2).astype(np.float64), pairs), shape=later.shape)
    return Follows(later, together)


def _pairs(user: np.ndarray, second: np.ndarray, item: np.ndarray, window: int) -> tuple[np.ndarray, ...]:
    """Return pairs of events of a user, of different items, a few moments apart: places of both, and how far."""
    is_new = (np.diff(second, prepend=-1) != 0) | (np.diff(user, prepend=-1) != 0)
    moment, place = is_new.cumsum(dtype=np.int32), np.arange(len(item), dtype=np.int32)
    found = [(place[:0], place[:0], np.empty(0, dtype=np.int32))]
    for places in range(1, MOST_PLACES + 1):
        apart = moment[places:] - moment[:-places]
        counts = (user[places:] == user[:-places]) & (apart <= window)
        if not counts.any():
            break
        counts &= item[places:] != item[:-places]
        found.append((place[:-places][counts], place[places:][counts], apart[counts]))
    earlier, later, distance = (np.concatenate(each) for each in zip(*found, strict=True))
    return earlier, later, distance


def transitions(found: Follows, users: np.ndarray, directed: bool, within_moments: bool) -> csr_array:
    """Return how often users take an item soon after another, see `follows`, over ``sqrt(users(i) users(j))``.

    Each item keeps its `MOST_OF_ITEM` greatest weights, in a row of float32, (items, items). If `directed`, only the
    later item follows the earlier one, else each follows the other; pairs of one moment count if `within_moments`.

    Examples:
        >>> columns = {"item_index": np.array([0, 1, 2]), "timestamp": np.array([5, 9, 9])}
        >>> events = Sequences.from_columns(np.array([0, 3]), **columns)
        >>> found = follows(events, np.ones(3, dtype=bool), 3, window=1, decay=0.5)
        >>> transitions(found, np.ones(3), directed=True, within_moments=True).toarray()
        array([[0., 1., 1.],
               [0., 0., 1.],
               [0., 1., 0.]], dtype=float32)
    """
    sums = found.later if directed else found.later + found.later.T.tocsr()
    if within_moments:
        sums = sums + found.together
    scale = np.maximum(users, 1).astype(np.float32) ** np.float32(-0.5)
    weights = csr_array((sums.data * np.repeat(scale, np.diff(sums.indptr)), sums.indices, sums.indptr), sums.shape)
    weights.data *= scale[sums.indices]
    return greatest(weights, MOST_OF_ITEM).astype(np.float32)


def greatest(matrix: csr_array, limit: int) -> csr_array:
    """Keep the numbers of greatest absolute value in each row."""
    lengths = np.diff(matrix.indptr)
    kept = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > limit).tolist():
        own = slice(*matrix.indptr[row : row + 2])
        kept[own][np.argpartition(-np.abs(matrix.data[own]), limit - 1)[limit:]] = False
    ends = np.append(0, np.minimum(lengths, limit).cumsum()).astype(np.int32)
    return csr_array((matrix.data[kept], matrix.indices[kept], ends), shape=matrix.shape)
