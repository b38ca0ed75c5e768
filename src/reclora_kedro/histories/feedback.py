"""How users rated and how items were rated so far: counts of earlier likes, which go on after the lens is trained."""

import numpy as np
import polars as pl

from reclora_kedro.histories.sequences import Sequences

STATISTICS = (
    "item_like_rate",
    "item_ratings",
    "user_like_rate",
    "user_ratings",
    "user_leniency",
    "recent_like_rate",
    "recent_leniency",
)
"""Columns of `feedback_statistics`."""

ITEM_PRIOR, USER_PRIOR, RECENT_PRIOR = 5, 3, 2  # ratings, half of them likes, that like rates begin with
RECENT = 10  # ratings


def feedback_statistics(samples: pl.DataFrame, sequences: Sequences) -> np.ndarray:
    """What the log says at each sample's moment about its user's and its item's likes; nothing later is read.

    Like rates are drawn towards one half, as if a few ratings had been there before, so that a single like counts
    little. Users are lenient who like what few others do: leniency is the mean of (liked or not) less the item's like
    rate when the user rated it.

    Args:
        samples: with user_index, item_index, timestamp, and history_end.
        sequences: every user's events.

    Returns:
        float32, shape (rows, 7), columns as in `STATISTICS`: the item's like rate and the logarithm of 1 + its number
        of ratings, both over events of an earlier second; the user's own like rate and logarithm of 1 + ratings, and
        leniency; like rate and leniency over the user's last ten ratings.

    Examples:
        >>> sequences = Sequences(
        ...     offsets=np.array([0, 2, 3]), item_index=np.array([0, 1, 0]), rating=np.ones(3),
        ...     rating_level=np.zeros(3, np.uint8), label=np.array([1, 0, 1]), timestamp=np.array([10, 20, 30]),
        ... )
        >>> now = {"user_index": [0, 1], "item_index": [0, 1], "history_end": [2, 3], "timestamp": [40, 40]}
        >>> statistics = feedback_statistics(pl.DataFrame(now), sequences)
        >>> [round(float(rate), 2) for rate in statistics[:, STATISTICS.index("item_like_rate")]]
        [0.64, 0.42]
    """
    item_likes, item_ratings = _likes_before(
        sequences, samples["item_index"].to_numpy(), samples["timestamp"].to_numpy()
    )
    likes, ratings = _likes_before(sequences, sequences.item_index, sequences.timestamp)
    beyond = sequences.label - _like_rate(likes, ratings, ITEM_PRIOR)
    end = samples["history_end"].to_numpy()
    start = sequences.offsets[samples["user_index"].to_numpy()]
    last = np.maximum(start, end - RECENT)
    columns = (
        _like_rate(item_likes, item_ratings, ITEM_PRIOR),
        np.log1p(item_ratings),
        _like_rate(_sums(sequences.label, start, end), end - start, USER_PRIOR),
        np.log1p(end - start),
        _sums(beyond, start, end) / (end - start + USER_PRIOR),
        _like_rate(_sums(sequences.label, last, end), end - last, RECENT_PRIOR),
        _sums(beyond, last, end) / (end - last + RECENT_PRIOR),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _likes_before(sequences: Sequences, item: np.ndarray, timestamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likes and ratings of items in seconds before the given ones, by everyone."""
    first, last = sequences.timestamp.min(), sequences.timestamp.max()
    seconds = np.int64(last - first + 2)

    def key(item: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
        return item.astype(np.int64) * seconds + np.clip(timestamp - first, 0, seconds - 1)

    keys = key(sequences.item_index, sequences.timestamp)
    order = np.argsort(keys, kind="stable")
    start = np.searchsorted(keys[order], key(item, np.broadcast_to(first, item.shape)))
    end = np.searchsorted(keys[order], key(item, timestamp))
    return _sums(sequences.label[order], start, end), end - start


def _sums(values: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Sum of `values[start:end]` for each pair of places."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return sums[end] - sums[start]


def _like_rate(likes: np.ndarray, ratings: np.ndarray, prior: int) -> np.ndarray:
    return (likes + prior / 2) / (ratings + prior)
