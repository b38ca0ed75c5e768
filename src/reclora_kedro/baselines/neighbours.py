"""Item neighbours: items with the same users as the user's latest ones, or with similar texts."""

import logging
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import pairwise, product
from typing import Annotated, Self

import numpy as np
import polars as pl
from pydantic import Field
from scipy.sparse import csr_array

from kedro_provenance.parameters import Block
from reclora_kedro.baselines.base import Scorer, ndcg_of_settings
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import places_of
from reclora_kedro.history.taken_items import draw_positives, latest_events
from reclora_kedro.parameters import Count, NonNegative, Real, Seed

logger = logging.getLogger(__name__)

NOTE = "items that the same users took as those of the user's latest events, or whose texts are alike"
STYLE = Style("#17777B", "star-diamond", "dot")
PAIRS_AT_ONCE = 2**24  # pairs of items whose users are counted at once
PAIRS_KEPT = 2**25  # of these, whose numbers take 256 MiB
MOST_CHANGES = 2**14  # of what users take, beside what they took; to add them takes the longer, the larger that is
Row = tuple[np.ndarray, np.ndarray]
"""Items, ascending, and a value for each."""


class ItemNeighboursConfig(Block):
    """Settings of `ItemNeighbours`."""

    events: Count
    nearest: Count
    recency: Annotated[Real, Field(gt=0, le=1)]
    popularity_power: NonNegative
    text_weight: NonNegative
    tried_popularity_powers: tuple[NonNegative, ...]
    tried_text_weights: tuple[NonNegative, ...]
    validation_likes: Count
    seed: Seed


def scorer(log: InteractionLog, config: ItemNeighboursConfig) -> Scorer:
    """Return a scorer that knows the training events, and of the user all events before the pair's moment."""
    return ItemNeighbours(log, chosen(log, config), log.training_events()).score


def chosen(log: InteractionLog, config: ItemNeighboursConfig) -> ItemNeighboursConfig:
    """Return the settings, of those to try, with the highest NDCG@10 on validation likes, if there are any."""
    powers = dict.fromkeys((config.popularity_power, *config.tried_popularity_powers))
    weights = dict.fromkeys((config.text_weight, *config.tried_text_weights))
    if log.item_embeddings is None:
        weights = {0.0: None}
    likes = draw_positives(log, "validation", None, config.validation_likes, config.seed)
    if len(powers) * len(weights) == 1 or likes.is_empty():
        return config
    usable, target = log.training_events(), likes["item_index"].to_numpy()
    seen = latest_events(log.sequences, likes, log.items.height, len(usable), 1)
    moments = list(zip(likes["user_index"], likes["history_end"], strict=True))

    def model(power: float, weight: float) -> ItemNeighbours:
        tried = config.model_copy(update={"popularity_power": power, "text_weight": weight})
        return ItemNeighbours(log, tried, usable)

    by_users = {power: model(power, 0) for power in powers}
    first = next(iter(powers))
    by_both = model(first, 1) if any(weights) else None

    def scores(rows: slice) -> Iterator[tuple[tuple[float, float], np.ndarray]]:
        of_users = {power: model.of_moments(moments[rows]) for power, model in by_users.items()}
        by_texts = by_both.of_moments(moments[rows]) - of_users[first] if by_both else np.float32(0)
        for power, weight in product(powers, weights):
            yield (power, weight), of_users[power] + np.float32(weight) * by_texts

    tried = ndcg_of_settings(scores, seen, target)
    power, weight = max(tried, key=tried.__getitem__)
    logger.info("Item neighbours: popularity_power %s, text_weight %s", power, weight)
    return config.model_copy(update={"popularity_power": power, "text_weight": weight})


class ItemNeighbours:
    """Scores of items from a user's latest events, after Sarwar et al., Item-based collaborative filtering (2001).

    With the user's events j_0, j_1, … from the latest one backwards, item i scores::

        sum over k of recency^k * (shared(i, j_k) / (users(i) * users(j_k))^popularity_power
                                   + text_weight * max(0, cos(v_i, v_(j_k)))^3)

    where shared and users count the users with both items, or one, among their latest events. For each item j, only its
    nearest items have terms that are not 0; they are found at the first request for j.

    Args:
        log: the log, with item embeddings if the text has a weight.
        usable: whether an event counts for the numbers of users, shape (events,); None for all.
    """

    def __init__(self, log: InteractionLog, config: ItemNeighboursConfig, usable: np.ndarray | None = None) -> None:
        self._config, self._events, self.items = config, log.sequences, log.items.height
        self._taken = self._taken_by(np.arange(len(self._events.starts)), usable)
        self._takers = self._taken.T.tocsr()
        self._changes = csr_array(self._taken.shape, dtype=np.float32)  # since then
        self._users = self._taken.sum(axis=0)
        self._shared: dict[int, Row] = {}  # users of each item and others
        self._kept = 0  # numbers of these
        self._nearest: dict[int, Row] = {}
        self._alike: dict[int, Row] = {}  # the items with the nearest texts
        self._vectors = None
        if config.text_weight:
            assert log.item_embeddings is not None  # the caller reads them where the text has a weight
            vectors = log.item_embeddings.astype(np.float32)
            self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def with_log(self, log: InteractionLog, changed: np.ndarray | None = None) -> Self:
        """Return a copy that reads histories from another log of the same users and items.

        Args:
            changed: indices, ascending, of users to count again by their events in this log; None for nobody.
        """
        neighbours = copy(self)
        neighbours._events = log.sequences
        if changed is not None:
            neighbours._recount(self._taken_by(changed), neighbours._taken_by(changed))
        return neighbours

    def _taken_by(self, users: np.ndarray, usable: np.ndarray | None = None) -> csr_array:
        """Return whether each item is among the latest events of some users: float32, (all users, items)."""
        starts, ends = self._events.starts, self._events.ends
        event, user = places_of(starts[users], ends[users]), np.repeat(users, (ends - starts)[users])
        if usable is not None:
            event, user = event[usable[event]], user[usable[event]]
        after = np.searchsorted(user, user, side="right") - 1 - np.arange(len(user))
        pairs = (user * self.items + self._events.item_index[event])[after < self._config.events]
        pairs = np.divmod(np.unique(pairs), self.items)  # each user and item once
        return csr_array((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=(len(starts), self.items))

    def _recount(self, before: csr_array, now: csr_array) -> None:
        change = now - before
        self._changes, self._users = self._changes + change, self._users + change.sum(axis=0)
        if self._changes.nnz > MOST_CHANGES:
            self._taken, self._changes = self._taken + self._changes, csr_array(now.shape, dtype=np.float32)
            self._takers = self._taken.T.tocsr()
        self._shared, self._nearest = self._shared.copy(), {}
        more = (now.T @ now - before.T @ before).tocsr()
        for item in np.flatnonzero(np.diff(more.indptr)).tolist():
            if item in self._shared:
                self._shared[item] = _sum(self._shared[item], _row(more, item))

    def nearest(self, items: np.ndarray) -> list[Row]:
        """Return the nearest items of each of some items, ascending, and their sums of both terms."""
        missing = np.array(sorted({*items.tolist()} - self._nearest.keys()), dtype=np.int64)
        step = max(1, PAIRS_AT_ONCE // self.items)
        for rows in np.split(missing, range(step, len(missing), step)) if len(missing) else ():
            self._find_nearest(rows)
        return [self._nearest[item] for item in items.tolist()]

    def _find_nearest(self, items: np.ndarray) -> None:
        """Find the nearest items of some items; among equals the first ones."""
        counted = {item: self._shared[item] for item in items.tolist() if item in self._shared}
        uncounted = np.array([item for item in items.tolist() if item not in counted], dtype=np.int64)
        if len(uncounted):
            takers = self._takers[uncounted] + self._changes.T.tocsr()[uncounted]
            shared = takers @ self._taken + takers @ self._changes
            shared.sort_indices()
            rows = {item: _row(shared, place) for place, item in enumerate(uncounted.tolist())}
            counted |= rows
            if self._kept + shared.nnz <= PAIRS_KEPT:
                self._kept += shared.nnz
                self._shared |= rows
        scale, most = np.maximum(self._users, 1) ** -self._config.popularity_power, self._config.nearest
        for item, (others, users) in counted.items():
            weight = users * scale[item] * scale[others]
            weight[others == item] = 0
            near = _greatest(weight, most)
            self._nearest[item] = others[near], weight[near]
        if self._vectors is not None:
            self._find_alike(np.array([item for item in counted if item not in self._alike], dtype=np.int64))
            for item in counted:
                self._nearest[item] = _sum(self._nearest[item], self._alike[item])

    def _find_alike(self, items: np.ndarray) -> None:
        assert self._vectors is not None  # the caller has asked
        cosines = np.maximum(self._vectors[items] @ self._vectors.T, 0)
        for item, weight in zip(items.tolist(), self._config.text_weight * cosines**3, strict=True):
            near = _greatest(weight, self._config.nearest)
            self._alike[item] = near, weight[near]

    def latest(self, user: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return items of the user's events before event `end`, the latest first, and the events' weights."""
        start = max(self._events.starts[user], end - self._config.events)
        history = self._events.item_index[start:end][::-1]
        return history, self._config.recency ** np.arange(len(history), dtype=np.float32)

    def reasons(self, user: int, end: int, items: np.ndarray, most: int) -> list[Row]:
        """Return the items of a user's latest events before event `end` that contribute most to items' scores.

        Returns:
            For each item, event items by falling contribution, and the contribution of the latest event with each.
        """
        history, weights = self.latest(user, end)
        history, first = np.unique(history, return_index=True)
        near = np.zeros((len(items), len(history)), dtype=np.float32)
        for event, (others, likeness) in enumerate(self.nearest(history)):
            place = np.searchsorted(others, items)
            held = place < len(others)
            held[held] = others[place[held]] == items[held]
            near[held, event] = likeness[place[held]]
        near *= weights[first]
        order = np.argsort(-near, axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(near, order, axis=1)
        return [(history[row[each > 0]], each[each > 0]) for row, each in zip(order, best, strict=True)]

    def scores(self, user: int, end: int) -> np.ndarray:
        """Return scores of all items for a user whose history ends before event `end`: shape (items,)."""
        return np.bincount(*self._addends(user, end), minlength=self.items).astype(np.float32)

    def sparse_scores(self, moments: pl.DataFrame) -> csr_array:
        """Return scores of all items, see `scores`, for moments with user_index and history_end: (moments, items)."""
        users_and_ends = list(moments.select("user_index", "history_end").iter_rows())
        self.nearest(np.concatenate([np.empty(0, int), *(self.latest(*each)[0] for each in users_and_ends)]))
        rows = [self._sums(*each) for each in users_and_ends]
        items, scores = (np.concatenate(each) for each in zip(*rows, strict=True))
        ends = np.cumsum([0, *(len(items) for items, _ in rows)])
        return csr_array((scores, items, ends), shape=(moments.height, self.items))

    def _sums(self, user: int, end: int) -> Row:
        """Return the items near a user's latest ones, and their scores."""
        near, weight = self._addends(user, end)
        items, place = np.unique(near, return_inverse=True)
        return items, np.bincount(place, weight).astype(np.float32)

    def _addends(self, user: int, end: int) -> Row:
        """Return the items near each of a user's latest ones, with repetitions, and what each adds to its score."""
        history, weights = self.latest(user, end)
        if len(history) == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        near, likeness = zip(*self.nearest(history), strict=True)
        return np.concatenate(near), np.repeat(weights, list(map(len, near))) * np.concatenate(likeness)

    def of_moments(self, moments: Iterable[tuple[int, int]]) -> np.ndarray:
        """Return scores of all items, see `scores`, for users and ends of their histories: shape (moments, items)."""
        return np.stack([self.scores(user, end) for user, end in moments])

    def score(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return scores of pairs with user_index, history_end and item_index: shape (pairs,)."""
        user, end, item = (pairs[name].to_numpy() for name in ("user_index", "history_end", "item_index"))
        is_first = (np.diff(user, prepend=-1) != 0) | (np.diff(end, prepend=-1) != 0)  # of a moment
        starts = np.flatnonzero(is_first)
        histories = [self.latest(user[start], end[start])[0] for start in starts]
        self.nearest(np.concatenate([np.empty(0, int), *histories]))
        scores = np.empty(pairs.height)
        for start, stop in pairwise([*starts, pairs.height]):
            scores[start:stop] = self.scores(user[start], end[start])[item[start:stop]]
        return scores


def _greatest(weight: np.ndarray, most: int) -> np.ndarray:
    """Return places, ascending, of at most `most` greatest numbers above 0; among equals the first ones."""
    least = np.partition(weight, -most)[-most] if len(weight) > most else 0
    near = weight > least
    if least > 0:
        near[np.flatnonzero(weight == least)[: most - near.sum()]] = True
    return np.flatnonzero(near)


def _row(matrix: csr_array, row: int) -> Row:
    among = slice(*matrix.indptr[row : row + 2])
    return matrix.indices[among], matrix.data[among]


def _sum(row: Row, other: Row) -> Row:
    (items, numbers), (others, more) = row, other
    place = np.searchsorted(items, others)
    held = place < len(items)
    held[held] = items[place[held]] == others[held]
    if held.all():
        numbers = numbers.copy()
    else:
        items, numbers = np.insert(items, place[~held], others[~held]), np.insert(numbers, place[~held], 0)
        place = np.searchsorted(items, others)
    numbers[place] += more
    return items, numbers
