"""Boosted trees on the numeric inputs of a lens and on features of the history, without ids."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.baselines.base import score_table
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import recent_events, unit_vectors
from reclora_kedro.history.sequences import user_of_events

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens

logger = logging.getLogger(__name__)

NOTE = (
    "boosted trees on counts, rates and ages of earlier events, on the user's latest ratings and those of items with "
    "similar texts or ratings, and, if the lens reads it, on the similarity of target and history; without ids, and "
    "trained on all training rows"
)
LABEL = "boosted trees on statistics and similarities"
STYLE = Style("#E69F00", "x", "longdashdot")
SETTINGS = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""Chosen on validation rows of MovieLens-100K and MovieTweetings 100K, where they matter by at most 0.001 AUC."""
ROUNDS, PATIENCE = 1_000, 20
EVENTS = 50  # latest ones whose ratings are read
SHARPNESS = (4, 12)  # of the weights of events, exponential in the cosine of their item and the target
AT_ONCE = 2**13  # samples whose histories are compared with their items at once
SECONDS_PER_HOUR = 3600
ALIKE_EVENTS = 400  # latest ones whose ratings are weighted by how alike others rate their items and the target
FOLDS = 5  # of users, each of which is read by what the others rate
FEW_USERS, FEW_RATINGS, LITTLE_LIKENESS = 25, 5, 0.5  # weights of 0 in correlations and in means
MOST_PAIRS = 2**27  # of items rated by one user, above which likeness takes too long
ALIKE_AT_ONCE = 2**12  # samples for which they are read at once


def scores(log: InteractionLog, lens: Lens) -> pl.DataFrame:
    """Return the probabilities of a like of the whole test split from trees trained on all training samples.

    Validation samples stop the training. The trees use the lens's statistics settings, its `Lens.cosines`, and its
    seed; in training, co-occurrences of an item are hidden at the rate of its ids, as for the lens.
    """
    import lightgbm
    import torch

    from reclora_kedro.devices import seeded

    labels, rows = log.samples["label"].to_numpy(), [log.rows_in(split) for split in ("train", "validation")]
    with torch.inference_mode():
        with seeded(lens.config.seed, torch.device("cpu")):
            inputs = _numbers(log, log.samples[rows[0]], lens.train())
        unseen, scored = (_numbers(log, part, lens.eval()) for part in (log.samples[rows[1]], log.samples_in("test")))
    learned = lightgbm.Dataset(inputs, labels[rows[0]])
    trees = lightgbm.train(
        SETTINGS | {"seed": lens.config.seed},
        learned,
        ROUNDS,
        valid_sets=[lightgbm.Dataset(unseen, labels[rows[1]], reference=learned)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return score_table(log.samples_in("test"), np.asarray(trees.predict(scored)))


def _numbers(log: InteractionLog, samples: pl.DataFrame, lens: Lens) -> np.ndarray:
    """Return rating statistics, cosines if the lens reads them, and features of the history: (n, features)."""
    from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader, statistics_of

    numbers = [statistics_of(lens)(log).compute(samples).to_numpy()]
    if lens.similarities.output_dim:
        cosines = []
        for _, batch in LensLoader(log, lens).batches(samples, SCORING_BATCH_SIZE):
            lens.hide_items()
            cosines.append(lens.cosines(batch).numpy())
        numbers.append(np.concatenate(cosines))
    is_training_event, delay = None, lens.config.statistics_delay
    if delay == "frozen":
        is_training_event, delay = log.sequences.timestamp <= lens.sizes.trained_until, 0
    elif not log.shared_clock:
        is_training_event = log.training_events()
    facts = ItemFacts(log, is_training_event, delay).features(log.sequences, samples)
    vectors = np.zeros((log.items.height, 1)) if log.item_embeddings is None else unit_vectors(log.item_embeddings)
    parts = [_ratings(log, part, vectors.astype(np.float32)) for part in samples.iter_slices(AT_ONCE)]
    columns = [*facts.values(), rated_alike(log, samples, lens.training)]
    return np.hstack([*numbers, np.stack(columns, axis=1), *([np.concatenate(parts)] if parts else [])])


def _ratings(log: InteractionLog, samples: pl.DataFrame, vectors: np.ndarray) -> np.ndarray:
    """Return the user's ratings of the latest events, and of those similar to the target: shape (n, 9).

    The columns are the mean rating of the last 1, 3 and 10 events, the means weighted by `SHARPNESS`, the mean of the
    last hour, the rating and cosine of the most similar event, and the number of events of the last hour.
    """
    events = recent_events(samples, log.sequences, EVENTS)
    is_event, event = events >= 0, events.clip(0)
    rating, item = log.sequences.rating[event] * is_event, samples["item_index"].to_numpy()
    cosine = np.einsum("nkd,nd->nk", vectors[log.sequences.item_index[event]], vectors[item], optimize=True)
    cosine = np.where(is_event, cosine, -1)
    events_after = is_event.sum(axis=1)[:, None] - 1 - np.arange(events.shape[1])
    in_last_hour = log.sequences.timestamp[event] > samples["timestamp"].to_numpy()[:, None] - SECONDS_PER_HOUR
    weights = [
        *(is_event & (events_after < latest) for latest in (1, 3, 10)),
        *(is_event * np.exp(sharpness * cosine) for sharpness in SHARPNESS),
        is_event & in_last_hour,
    ]
    means = [(weight * rating).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9) for weight in weights]
    nearest = cosine.argmax(axis=1)[:, None]
    of_nearest = [np.take_along_axis(values, nearest, axis=1)[:, 0] for values in (rating, cosine)]
    return np.stack([*means, *of_nearest, weights[-1].sum(axis=1)], axis=1)


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
            logger.info("Boosted trees leave out ratings of other users: %d pairs of items are too many.", pairs)
        return feature
    fold = np.arange(len(events.starts)) % FOLDS if in_training else np.full(len(events.starts), -1)
    fold_of_sample = fold[samples["user_index"].to_numpy()]
    for part in np.unique(fold_of_sample).tolist():
        counted = np.flatnonzero(is_training_event & ((fold[user] != part) | (not in_training)))
        base, likeness = _likeness(events.rating[counted], user[counted], events.item_index[counted], log.items.height)
        rows = np.flatnonzero(fold_of_sample == part)
        for some in np.split(rows, range(ALIKE_AT_ONCE, len(rows), ALIKE_AT_ONCE)):
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
    events = recent_events(samples, log.sequences, ALIKE_EVENTS)
    is_event, event = events >= 0, events.clip(0)
    item = log.sequences.item_index[event]
    above = np.where(is_event, log.sequences.rating[event] - base[item], 0)
    above -= (above.sum(axis=1) / (is_event.sum(axis=1) + FEW_RATINGS))[:, None]
    row = np.repeat(np.arange(len(events)), is_event.sum(axis=1))
    weight = np.asarray(likeness[samples["item_index"].to_numpy()[row], item[is_event]]).ravel()
    sums = np.bincount(row, weight * above[is_event], minlength=len(events))
    return sums / (np.bincount(row, np.abs(weight), minlength=len(events)) + LITTLE_LIKENESS)
