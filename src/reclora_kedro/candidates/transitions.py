"""Transitions: how often users take one item soon after another."""

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array, diags_array

from reclora_kedro.history.sequences import Sequences, edges_of_blocks

EVENTS_AT_ONCE = 2**23  # of whole users, whose pairs are counted together: 1 GiB
MOST_PLACES = 64  # apart, of events that are compared: a moment of more events would have too many pairs


def transitions(
    sequences: Sequences,
    usable: np.ndarray,
    users: np.ndarray,
    window: int,
    decay: float,
    directed: bool,
    within_moments: bool,
) -> csr_array:
    """Return how often users take an item soon after another, over ``sqrt(users(i) users(j))``.

    An event at which a user took j, d moments after one at which they took i, counts ``decay^(d - 1)``. Events of one
    second are one moment without an order: pairs of them count 1 in both directions.

    Args:
        usable: whether an event counts, shape (events,).
        users: number of users of each item, shape (items,).
        window: maximum number of moments between two events.
        decay: factor per further moment between them.
        directed: whether only the later item follows the earlier one, or each follows the other.
        within_moments: whether pairs of one moment count.

    Returns:
        Float32, shape (items, items), with i in rows.

    Examples:
        >>> columns = {"item_index": np.array([0, 1, 2]), "timestamp": np.array([5, 9, 9])}
        >>> events = Sequences.of_columns(np.array([0, 3]), **columns)
        >>> everyone, users = np.ones(3, dtype=bool), np.ones(3)
        >>> transitions(events, everyone, users, 1, 0.5, directed=True, within_moments=True).toarray()
        array([[0., 1., 1.],
               [0., 0., 1.],
               [0., 1., 0.]], dtype=float32)
    """
    items, sums = len(users), csr_array((len(users), len(users)), dtype=np.float32)
    for first, last in pairwise(edges_of_blocks(sequences.offsets, EVENTS_AT_ONCE).tolist()):
        offsets = sequences.offsets[first : last + 1]
        event = offsets[0] + np.flatnonzero(usable[offsets[0] : offsets[-1]])
        user, second = np.searchsorted(offsets, event, side="right"), sequences.timestamp[event]
        pairs = _pairs(user, second, sequences.item_index[event], items, window, decay, directed, within_moments)
        sums = sums + pairs
    scale = diags_array(np.maximum(users, 1) ** np.float32(-0.5))
    return (scale @ sums @ scale).tocsr().astype(np.float32)


def _pairs(
    user: np.ndarray,
    second: np.ndarray,
    item: np.ndarray,
    items: int,
    window: int,
    decay: float,
    directed: bool,
    within_moments: bool,
) -> csr_array:
    """Return the sums over pairs of these events."""
    is_new = (np.diff(second, prepend=-1) != 0) | (np.diff(user, prepend=-1) != 0)
    moment, sums = is_new.cumsum(), csr_array((items, items), dtype=np.float32)
    for places in range(1, MOST_PLACES + 1):
        apart = moment[places:] - moment[:-places]
        counts = (user[places:] == user[:-places]) & (apart <= window)
        if not counts.any():
            break
        counts &= item[places:] != item[:-places]
        if not within_moments:
            counts &= apart > 0
        earlier, later, apart = item[:-places][counts], item[places:][counts], apart[counts]
        weight = np.where(apart > 0, np.float32(decay) ** (apart - 1), np.float32(1))
        forward = csr_array((weight, (earlier, later)), shape=sums.shape)
        back = apart == 0 if directed else slice(None)
        sums = sums + forward + csr_array((weight[back], (later[back], earlier[back])), shape=sums.shape)
    return sums
