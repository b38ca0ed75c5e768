"""How users rated the items that others rate as they rate the target: a feature for boosted trees."""

import logging

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import recent_events
from reclora_kedro.history.sequences import user_of_events

logger = logging.getLogger(__name__)

EVENTS = 400  # latest ones whose ratings are read
FOLDS = 5  # of users, each of which is read by what the others rate
FEW_USERS, FEW_RATINGS, LITTLE_LIKENESS = 25, 5, 0.5  # weights of 0 in correlations and in means
MOST_PAIRS = 2**27  # of items rated by one user, above which likeness takes too long
AT_ONCE = 2**12  # samples at once


def rated_alike(log: InteractionLog, samples: pl.DataFrame, in_training: bool) -> np.ndarray:
    """Return the mean rating of the user's latest events, weighted by how alike others rate them and the target: (n,).

    Ratings are less their item's and their user's mean; weights are correlations over the users of training events
    (Sarwar et al., Item-based collaborative filtering, 2001), shrunk towards 0. It is 0 where nobody rated both, or
    where ratings do not differ. Training events may be later than a training sample; for test samples all are earlier.
    If the samples train, each fifth of the users is read by the ratings of the other ones.
    """
    events, is_training_event, user = log.sequences, log.training_events(), user_of_events(log.sequences.offsets)
    feature = np.zeros(samples.height, dtype=np.float32)
    pairs = int((np.bincount(user[is_training_event]).astype(np.int64) ** 2).sum())
    if not np.ptp(events.rating[is_training_event]) or pairs > MOST_PAIRS:
        if pairs > MOST_PAIRS:
            logger.info("Boosted trees do not read how others rate: %d pairs of items are too many.", pairs)
        return feature
    fold = np.arange(len(events.starts)) % FOLDS if in_training else np.full(len(events.starts), -1)
    fold_of_sample = fold[samples["user_index"].to_numpy()]
    for part in np.unique(fold_of_sample).tolist():
        counted = np.flatnonzero(is_training_event & ((fold[user] != part) | (not in_training)))
        base, likeness = _likeness(events.rating[counted], user[counted], events.item_index[counted], log.items.height)
        rows = np.flatnonzero(fold_of_sample == part)
        for some in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
            feature[some] = _weighted_means(log, samples[some], base, likeness)
    return feature


def _likeness(rating: np.ndarray, user: np.ndarray, item: np.ndarray, items: int) -> tuple[np.ndarray, csr_array]:
    """Return each item's mean rating, shrunk, (items,), and the correlations of items over their users, shrunk."""
    mean = rating.mean(dtype=np.float64)
    base = mean + _shrunk_means(rating - mean, item, items)
    rest = rating - base[item]
    rest -= _shrunk_means(rest, user, int(user.max()) + 1)[user]
    above = csr_array((rest, (user, item)), shape=(int(user.max()) + 1, items))
    rated = csr_array((np.ones(len(rest)), (user, item)), shape=above.shape)
    rated.data[:] = 1  # also where a user rated an item twice
    trust, squares = (rated.T @ rated).tocsr(), ((above * above).T @ rated).tocsr()
    trust.data /= trust.data + FEW_USERS
    scale = (squares * squares.T).sqrt().tocsr()
    scale.data = 1 / np.maximum(scale.data, 1e-6)
    likeness = ((above.T @ above) * scale * trust).tocsr()
    likeness.setdiag(0)
    return base, likeness


def _shrunk_means(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    return np.bincount(group, values, minlength=groups) / (np.bincount(group, minlength=groups) + FEW_RATINGS)


def _weighted_means(log: InteractionLog, samples: pl.DataFrame, base: np.ndarray, likeness: csr_array) -> np.ndarray:
    """Return the mean of ratings, less means, of each sample's history by its items' likeness to the target: (n,)."""
    events = recent_events(samples, log.sequences, EVENTS)
    is_event, event = events >= 0, events.clip(0)
    item = log.sequences.item_index[event]
    above = np.where(is_event, log.sequences.rating[event] - base[item], 0)
    above -= (above.sum(axis=1) / (is_event.sum(axis=1) + FEW_RATINGS))[:, None]
    row = np.repeat(np.arange(len(events)), is_event.sum(axis=1))
    weight = np.asarray(likeness[samples["item_index"].to_numpy()[row], item[is_event]]).ravel()
    sums = np.bincount(row, weight * above[is_event], minlength=len(events))
    return sums / (np.bincount(row, np.abs(weight), minlength=len(events)) + LITTLE_LIKENESS)
