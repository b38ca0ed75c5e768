"""Item-kNN: items with the same users as the user's latest ones, or with similar texts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from kedro_provenance.parameters import Block
from reclora_kedro.candidates.item_model import ItemModel, Step, Training
from reclora_kedro.candidates.moments import Moments, bound
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import Sequences, places_of
from reclora_kedro.parameters import NonNegative

EVENTS = 50  # latest ones of each user that count
NEAREST = 200  # items of each item that count
RECENCY = 0.8  # weight of an event, times that of the next later one
REASON_SHARE = 0.1  # least share of an event in an item's score with which it is a reason
# The last bits of a product depend on the number of rows: always the same rows together, whatever items are asked for.
ROWS_TOGETHER = 8
PAIRS_AT_ONCE = 2**24  # pairs of items whose users are counted at once
PAIRS_KEPT = 2**25  # of these, or of items with similar texts, whose numbers take 256 MiB
MOST_CHANGES = 2**14  # of what users take, beside what they took; to add them takes the longer, the larger that is
Row = tuple[np.ndarray, np.ndarray]  # items, ascending, and a value for each


class ItemKnnConfig(Block):
    """Settings among which likes choose."""

    popularity_powers: tuple[NonNegative, ...] = Field(min_length=1)
    text_weights: tuple[NonNegative, ...] = Field(min_length=1)


class ItemKnnSettings(Block):
    """Power of both items' numbers of users, 0.5 for their cosine, and weight of the similarity of texts."""

    popularity_power: NonNegative = 0.5
    text_weight: NonNegative = 0.0


class SharedUsers:
    """How many users have each item, and each with another one, among their latest events.

    Rows of items are counted at the first request. Where the log declares weights, a user counts for two items as the
    product of how much each was taken, by the event that counts most. All events count, or those of training.
    """

    def __init__(self, events: Sequences, items: int, is_training_event: np.ndarray | None = None) -> None:
        self._events, self.items = events, items
        self._taken = self._taken_by(np.arange(len(events.starts)), is_training_event)
        self._takers = self._taken.T.tocsr()
        self._changes = csr_array(self._taken.shape, dtype=np.float32)  # since then
        self.users = (self._taken**2).sum(axis=0)
        self._shared: dict[int, Row] = {}
        self._kept = 0  # numbers in these

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_shared": {}, "_kept": 0}  # another process counts what it needs

    def with_events(self, events: Sequences, changed: np.ndarray) -> Self:
        """Return a copy in which some users, by ascending index, count by their events among others."""
        counts = copy(self)  # which counts rows of items anew, as another process does
        counts._events = events
        now, before = counts._taken_by(changed), self._taken_by(changed)
        change = now - before
        counts._changes, counts.users = self._changes + change, self.users + (now**2 - before**2).sum(axis=0)
        if counts._changes.nnz > MOST_CHANGES:
            counts._taken, counts._changes = self._taken + counts._changes, csr_array(change.shape, dtype=np.float32)
            counts._takers = counts._taken.T.tocsr()
        return counts

    def _taken_by(self, users: np.ndarray, is_training_event: np.ndarray | None = None) -> csr_array:
        """Return whether each item is among the latest events of some users: float32, (all users, items)."""
        starts, ends = self._events.starts, self._events.ends
        event, user = places_of(starts[users], ends[users]), np.repeat(users, (ends - starts)[users])
        if is_training_event is not None:
            event, user = event[is_training_event[event]], user[is_training_event[event]]
        after = np.searchsorted(user, user, side="right") - 1 - np.arange(len(user))
        latest = event[after < EVENTS]
        pairs = user[after < EVENTS] * self.items + self._events.item_index[latest]
        weights = self._events.weights(latest)
        if weights is None:
            pairs = np.sort(pairs, kind="stable")
            pairs = pairs[np.diff(pairs, prepend=-1) != 0]  # each once; np.unique takes 70 times as long
            weights = np.ones(len(pairs), dtype=np.float32)
        else:
            order = np.lexsort((-weights, pairs))
            first = order[np.diff(pairs[order], prepend=-1) != 0]
            first = first[weights[first] > 0]
            pairs, weights = pairs[first], weights[first]
        user, item = (each.astype(np.int32) for each in np.divmod(pairs, self.items))
        return csr_array((weights, (user, item)), shape=(len(starts), self.items))

    def rows(self, items: np.ndarray) -> dict[int, Row]:
        """Return the items that share users with each of some items, ascending, and the numbers of these users."""
        counted = {item: self._shared[item] for item in items.tolist() if item in self._shared}
        missing = np.array([item for item in items.tolist() if item not in counted], dtype=np.int64)
        if len(missing):
            takers = self._takers[missing]
            if self._changes.nnz:  # as sums of large sparse matrices take long
                takers = takers + self._changes.T.tocsr()[missing]
            shared = takers @ self._taken
            if (changed := takers @ self._changes).nnz:
                shared = shared + changed
            shared.sort_indices()
            rows = {item: _row(shared, place) for place, item in enumerate(missing.tolist())}
            counted |= rows
            if self._kept + shared.nnz <= PAIRS_KEPT:
                self._kept += shared.nnz
                self._shared |= rows
        return counted


class Nearest(ABC):
    """The nearest items of each item, found at the first request in each process."""

    def __init__(self) -> None:
        self._near: dict[int, Row] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_near": {}}

    def rows(self, items: np.ndarray) -> list[Row]:
        """Return the nearest items of each of some items, ascending, and their weights; the first ones among equals."""
        for item, others, weight in self.weights(np.array(sorted({*items.tolist()} - self._near.keys()), np.int64)):
            near = _greatest(weight, NEAREST)
            self._near[item] = others[near], weight[near]
        return [self._near[item] for item in items.tolist()]

    @abstractmethod
    def weights(self, items: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield each of some ascending items, and maybe further ones, with others, ascending, and their weights."""


class NearestByUsers(Nearest):
    """The nearest items by shared users, over both items' users to a power."""

    def __init__(self, shared: SharedUsers, power: float) -> None:
        super().__init__()
        self.shared, self._power = shared, power

    def weights(self, items: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        scale, step = self._scale, max(1, PAIRS_AT_ONCE // self.shared.items)
        for start in range(0, len(items), step):
            for item, (others, users) in self.shared.rows(items[start : start + step]).items():
                weight = users * scale[item] * scale[others]
                weight[others == item] = 0
                yield item, others, weight

    @cached_property
    def _scale(self) -> np.ndarray:
        return np.maximum(self.shared.users, 1) ** -self._power


class NearestByTexts(Nearest):
    """The nearest items by the cubed cosine of their vectors."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__()
        self._vectors = unit_vectors(vectors).astype(np.float32)

    def weights(self, items: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        keeps_all = len(self._vectors) * NEAREST <= PAIRS_KEPT  # so that no block's product is made twice
        for start in (np.unique(items // ROWS_TOGETHER) * ROWS_TOGETHER).tolist():
            of_block = np.arange(start, min(start + ROWS_TOGETHER, len(self._vectors)))
            of_block = of_block if keeps_all else np.intersect1d(of_block, items)
            cosines = (self._vectors[start : start + ROWS_TOGETHER] @ self._vectors.T)[of_block - start]
            least = np.maximum(bound(cosines, min(NEAREST, cosines.shape[1])), 0)
            for item, own, may in zip(of_block.tolist(), cosines, cosines >= least, strict=True):
                others = np.flatnonzero(may)
                yield item, others, own[others] ** 3


@dataclass(frozen=True, eq=False)
class ItemKnn(ItemModel):
    """Scores of items from a user's latest events, after Sarwar et al., Item-based collaborative filtering (2001).

    With the user's events j_0, j_1, … from the latest one backwards, item i scores::

        sum over k of RECENCY^k * (shared(i, j_k) / (users(i) * users(j_k))^popularity_power
                                   + text_weight * max(0, cos(v_i, v_(j_k)))^3)

    where shared and users count the users with both items, or one, among their latest events. For each item j, only its
    nearest items have terms that are not 0. Events of one second have the same weight.
    """

    NOTE: ClassVar = "items taken by the same users as the user's latest ones, or with similar texts"
    LABEL: ClassVar = "taken by the same users, or similar text"
    STYLE: ClassVar = Style("#17777B", "star-diamond", "dot")
    Config: ClassVar = ItemKnnConfig
    Settings: ClassVar = ItemKnnSettings

    settings: ItemKnnSettings
    by_users: NearestByUsers
    by_texts: NearestByTexts | None  # if they have a weight

    @classmethod
    def choices(cls, config: ItemKnnConfig, training: Training) -> list[Step]:
        weights = (0.0,) if training.log.item_embeddings is None else config.text_weights
        pairs = product(config.popularity_powers, weights)
        return [Step([{"popularity_power": power, "text_weight": weight} for power, weight in pairs])]

    @classmethod
    def fit(cls, training: Training, settings: ItemKnnSettings) -> Self:
        log, vectors, power = training.log, training.log.item_embeddings, settings.popularity_power
        shared = training.once(
            "shared_users", lambda: SharedUsers(log.sequences, training.items, training.is_training_event)
        )
        by_users = training.once(("nearest", power), lambda: NearestByUsers(shared, power))
        by_texts = None
        if settings.text_weight:
            assert vectors is not None  # without vectors, no weight is chosen
            by_texts = training.once("near_texts", lambda: NearestByTexts(vectors))
        return cls(settings, by_users, by_texts)

    def with_events(self, log: InteractionLog, changed: np.ndarray | None = None) -> Self:
        shared = self.by_users.shared
        if changed is None:
            shared = SharedUsers(log.sequences, shared.items)
        elif len(changed):
            shared = shared.with_events(log.sequences, changed)
        else:
            return self
        return replace(self, by_users=NearestByUsers(shared, self.settings.popularity_power))

    def scores(self, moments: Moments) -> csr_array:
        scores = _weighted(moments, self.by_users)
        if self.by_texts is not None:
            scores = scores + np.float32(self.settings.text_weight) * _weighted(moments, self.by_texts)
        return scores

    def nearest(self, item: int) -> Row:
        """Return the nearest items of an item, ascending, and their weights."""
        [row], *alike = self._terms(np.array([item]))
        return _sum(row, alike[0][0]) if alike else row

    def _terms(self, items: np.ndarray) -> list[list[Row]]:
        """Return the nearest items of each of some items, by users and by texts, and their weights in a score."""
        terms = [self.by_users.rows(items)]
        if self.by_texts is not None:
            weight = np.float32(self.settings.text_weight)
            terms.append([(others, weight * cubes) for others, cubes in self.by_texts.rows(items)])
        return terms

    def reasons(self, moments: Moments, row: int, items: np.ndarray, limit: int) -> list[Row]:
        """Return the items of a row's latest events that contribute most to the scores of items.

        Returns:
            For each item, event items by falling contribution, and these contributions; none below `REASON_SHARE` of
            the item's score.
        """
        latest = moments.latest(EVENTS, RECENCY)
        own = slice(*latest.indptr[row : row + 2])
        history, weights = latest.indices[own].astype(np.int64), latest.data[own]
        wanted, place_of_item = np.unique(items, return_inverse=True)
        near = np.zeros((len(wanted), len(history)), dtype=np.float32)
        for rows in self._terms(history) if len(history) else ():
            others, likeness = (np.concatenate(each) for each in zip(*rows, strict=True))
            event = np.repeat(np.arange(len(rows)), [len(of_event) for of_event, _ in rows])
            place = np.minimum(np.searchsorted(wanted, others), len(wanted) - 1)
            held = wanted[place] == others
            near[place[held], event[held]] += likeness[held]
        near = near[place_of_item]
        near *= weights
        near[near < REASON_SHARE * near.sum(axis=1, keepdims=True)] = 0
        order = np.argsort(-near, axis=1, kind="stable")[:, :limit]
        best = np.take_along_axis(near, order, axis=1)
        return [(history[row[each > 0]], each[each > 0]) for row, each in zip(order, best, strict=True)]


def _weighted(moments: Moments, nearest: Nearest) -> csr_array:
    """Return sums over histories of the weights of the items near their events: (moments, items)."""

    def made() -> csr_array:
        latest = moments.latest(EVENTS, RECENCY)
        latest_items, column = np.unique(latest.indices, return_inverse=True)
        nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        rows = nearest.rows(latest_items.astype(np.int64))
        items, weights = (np.concatenate(each) for each in zip(nothing, *rows, strict=True))
        ends = np.cumsum([0, *(len(near) for near, _ in rows)])
        near = csr_array((weights.astype(np.float32), items, ends), shape=(len(latest_items), moments.items))
        return csr_array((latest.data, column, latest.indptr), shape=(len(moments), len(latest_items))) @ near

    return moments.once(nearest, made)


def _greatest(weight: np.ndarray, limit: int) -> np.ndarray:
    """Return places, ascending, of at most `limit` greatest numbers above 0; among equals the first ones."""
    least = np.partition(weight, -limit)[-limit] if len(weight) > limit else 0
    near = weight > least
    if least > 0:
        near[np.flatnonzero(weight == least)[: limit - near.sum()]] = True
    return np.flatnonzero(near)


def _row(matrix: csr_array, row: int) -> Row:
    among = slice(*matrix.indptr[row : row + 2])
    return matrix.indices[among], matrix.data[among]


def _sum(row: Row, other: Row) -> Row:
    items = np.union1d(row[0], other[0])
    numbers = np.zeros(len(items), dtype=row[1].dtype)
    for others, more in (row, other):
        numbers[np.searchsorted(items, others)] += more
    return items, numbers
