"""Lists to make: moments of users, the items that each may get, and the order of items whose scores are equal."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.sequences import Sequences as Events
from reclora_kedro.history.taken_items import latest_events

NO_ITEM = -1  # padding of a list that ends early
NO_RULE = -1  # no rule has moved an item
SCORES_AT_ONCE = 2**21  # of all items at several moments: 8 MiB
LEAST_AT_ONCE = 4  # moments: a sparse product takes some time for each item, however few its rows are
DENSE_SHARE = 0.1  # of scores that are stored, from which on ranks are found sooner among all
PARTS = 16  # of the scores, per item of a list
NOTHING = np.array([], dtype=np.int64)

T = TypeVar("T")
Nothing = Literal["took_all", "nothing_allowed", "no_candidates"]
"""Why a list is empty: the user took all items, none may be recommended, or there were none to choose from."""
Scores: TypeAlias = np.ndarray | csr_array
"""Scores of all items at moments, (moments, items); of a sparse array, the others are 0."""


@dataclass(frozen=True, eq=False)
class ItemOrder:
    """The order of items whose scores are equal: that of their numbers of users, most first."""

    items: np.ndarray  # indices of all items in order, shape (items,)

    @cached_property
    def place(self) -> np.ndarray:
        """Place of each item in the order, shape (items,)."""
        place = np.empty(len(self.items), dtype=np.int32)
        place[self.items] = np.arange(len(self.items), dtype=np.int32)
        return place


class Lists(NamedTuple):
    """The best items of moments, best first."""

    items: np.ndarray  # item indices, padded with `NO_ITEM`: int64, shape (moments, n)
    scores: np.ndarray  # the scores that order them, NaN where there is none: float64, shape (moments, n)
    rules: np.ndarray = NOTHING  # of lists under rules, that which has moved an item, or `NO_RULE`: shape (moments, n)

    @classmethod
    def empty(cls, moments: int, n: int) -> Self:
        return cls(np.full((moments, n), NO_ITEM, dtype=np.int64), np.full((moments, n), np.nan))


def rows_of_lists(user: pl.Series, item: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of each user, which stand together, and their items: (users, longest), padded with `NO_ITEM`.

    Examples:
        >>> rows_of_lists(pl.Series(["bob", "bob", "ann"]), pl.Series([7, 5, 7]))[1]
        array([[ 7,  5],
               [ 7, -1]])
    """
    number = user.rle_id().to_numpy().astype(np.int64)
    place = np.arange(len(number)) - np.searchsorted(number, number)
    rows = np.full((number.max(initial=-1) + 1, place.max(initial=-1) + 1), NO_ITEM)
    rows[number, place] = np.arange(len(number))
    items = rows.copy()
    items[number, place] = item.to_numpy()
    return rows, items


@dataclass(frozen=True, eq=False)
class Moments:
    """Lists to make, one per row, whoever the user is: two requests of one user are two rows."""

    frame: pl.DataFrame  # user_index, history_end (flat index behind the user's events so far), timestamp: `MOMENT`
    events: Events  # that these indices are of
    order: ItemOrder  # decides between equal scores
    hidden: Sequence[np.ndarray]  # items that each row may not get
    allowed: Sequence[np.ndarray | None]  # the only items that each row may get; None for all
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        events: Events,
        order: ItemOrder,
        *,
        repeat: bool | np.ndarray = False,
        excluded: np.ndarray | Sequence[np.ndarray] = NOTHING,
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> Self:
        """Return moments at which users get items that are new to them, or any (`repeat`), without excluded ones.

        Both are for all rows, or for each; excluded and allowed items are by index.
        """
        frame = frame.select(MOMENT)
        without = [excluded] * frame.height if isinstance(excluded, np.ndarray) else excluded
        ends = frame["history_end"].to_numpy()
        starts = np.where(repeat, ends, events.starts[frame["user_index"].to_numpy()])
        runs = zip(starts.tolist(), ends.tolist(), without, strict=True)
        hidden = [np.concatenate([events.item_index[start:end], others]) for start, end, others in runs]
        return cls(frame, events, order, hidden, [None] * frame.height if allowed is None else allowed)

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, rows: slice | np.ndarray) -> "Moments":
        """Return some of the rows, by a slice, their numbers or a mask."""
        places = np.arange(len(self))[rows]
        hidden, allowed = ([each[place] for place in places.tolist()] for each in (self.hidden, self.allowed))
        return Moments(self.frame[places], self.events, self.order, hidden, allowed)

    @property
    def items(self) -> int:
        return len(self.order.items)

    @property
    def starts(self) -> np.ndarray:
        """Flat index of the first event of each row's user, shape (moments,)."""
        return self.events.starts[self.frame["user_index"].to_numpy()]

    @property
    def ends(self) -> np.ndarray:
        return self.frame["history_end"].to_numpy()

    @property
    def seconds(self) -> np.ndarray:
        return self.frame["timestamp"].to_numpy()

    @property
    def has_events(self) -> np.ndarray:
        """Whether each row's user has events so far, shape (moments,)."""
        return self.ends > self.starts

    def blocks(self) -> Iterator[tuple[slice, "Moments"]]:
        """Yield rows, a few at a time, so that the scores of all items are few enough."""
        step = max(LEAST_AT_ONCE, SCORES_AT_ONCE // self.items)
        if len(self) <= step:  # so that what is made of them serves further calls
            yield slice(0, len(self)), self
            return
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self[rows]

    def pairs(self, row: np.ndarray, item: np.ndarray) -> pl.DataFrame:
        """Return the columns of `MOMENT` and item_index of pairs of a row and an item."""
        return self.frame[row].with_columns(item_index=pl.Series(item, dtype=pl.Int32))

    def latest(self, limit: int, recency: float) -> csr_array:
        """Return the latest events of each row, weighted by recency, see `latest_events`: (moments, items)."""
        key = ("latest", limit, recency)
        return self.once(key, lambda: latest_events(self.events, self.frame, self.items, limit, recency))

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what has been made of these moments under a key, or make it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def allows(self, row: int, items: np.ndarray) -> np.ndarray:
        """Return whether a row may get each of some items, shape (items,)."""
        may = ~np.isin(items, self.hidden[row])
        if (only := self.allowed[row]) is not None:
            may &= np.isin(items, only)
        return may

    def count(self, row: int, end: int) -> int:
        """Return how many of the first items in the order, up to a place, a row may get."""
        place, hidden = self.order.place, np.unique(self.hidden[row])
        if (only := self.allowed[row]) is None:
            return end - int((place[hidden] < end).sum())
        return int((place[np.setdiff1d(only, hidden)] < end).sum())

    @cached_property
    def mask(self) -> np.ndarray:
        """Whether each row may get each item, shape (moments, items)."""
        mask = np.ones((len(self), self.items), dtype=bool)
        for row, (hidden, only) in enumerate(zip(self.hidden, self.allowed, strict=True)):
            if only is not None:
                mask[row] = False
                mask[row, only] = True
            mask[row, hidden] = False
        return mask

    def first(self, row: int, limit: int, without: np.ndarray = NOTHING, among: np.ndarray | None = None) -> np.ndarray:
        """Return the first items of an order (by default that of equals) that a row may get: at most `limit`."""
        among = self.order.items if among is None else among
        if (only := self.allowed[row]) is not None:
            among = among[np.isin(among, only)]
        among = among[: limit + len(without) + len(self.hidden[row])]
        return among[~np.isin(among, without) & ~np.isin(among, self.hidden[row])][:limit]


def why_empty(candidates: np.ndarray, excluded: np.ndarray) -> Nothing:
    """Return why a list from candidates without excluded items, by index, is empty."""
    if not len(candidates):
        return "no_candidates"
    return "took_all" if len(np.setdiff1d(candidates, excluded)) else "nothing_allowed"


def best_items(scores: Scores, moments: Moments, limit: int) -> Lists:
    """Return the items with the highest scores, the first in the order among equals; ValueError if one is no number."""
    values = scores if isinstance(scores, np.ndarray) else scores.data
    if not np.isfinite(values).all():
        count = np.count_nonzero(~np.isfinite(values))
        raise ValueError(f"{count} of {values.size} scores are not numbers; train the model again.")
    if isinstance(scores, np.ndarray):
        return _best_of_dense(scores, moments, limit)
    return _best_of_sparse(scores, moments, limit)


def _best_of_dense(scores: np.ndarray, moments: Moments, limit: int) -> Lists:
    lists = Lists.empty(len(moments), limit)
    limit = min(limit, moments.items)
    possible = np.where(moments.mask, scores, -np.inf)
    row, item = np.nonzero((possible >= bound(possible, limit)) & moments.mask)
    of_pairs = possible[row, item]
    order = np.lexsort((moments.order.place[item], -of_pairs, row))
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(moments)))[row]
    kept = rank < limit
    where, chosen = (row[kept], rank[kept]), order[kept]
    lists.items[where], lists.scores[where] = item[chosen], of_pairs[chosen]
    return lists


def bound(scores: np.ndarray, limit: int) -> np.ndarray:
    """Return a number that `limit` of the scores of each row, (rows, items), reach, and few others: (rows, 1).

    It is the lowest of the `limit` greatest scores among the greatest ones of parts of the row, which takes a tenth of
    the time that these take among all.
    """
    parts = PARTS * limit
    if (size := scores.shape[1] // parts) > 1:
        cut = size * parts
        greatest = scores[:, :cut].reshape(len(scores), size, parts).max(axis=1)
        scores = np.concatenate([greatest, scores[:, cut:]], axis=1)
    return np.partition(scores, -limit, axis=1)[:, -limit, None]


def _best_of_sparse(scores: csr_array, moments: Moments, limit: int) -> Lists:
    """Return the best items where all items without a stored score have 0."""
    lists, place = Lists.empty(len(moments), limit), moments.order.place
    for row in range(len(moments)):
        own = slice(*scores.indptr[row : row + 2])
        items, values = scores.indices[own], scores.data[own]
        counts = (values != 0) & moments.allows(row, items)
        items, values = items[counts], values[counts]
        everything_else = items
        if len(items) > limit:
            near = values >= bound(values[None], limit)[0]
            items, values = items[near], values[near]
        order = np.lexsort((place[items], -values))
        items, values = items[order], values[order]
        above = int((values > 0).sum())
        if above < limit:
            zeros = moments.first(row, limit - above, without=everything_else)
            items = np.concatenate([items[:above], zeros, items[above:]])
            values = np.concatenate([values[:above], np.zeros(len(zeros)), values[above:]])
        count = min(len(items), limit)
        lists.items[row, :count], lists.scores[row, :count] = items[:count], values[:count]
    return lists


def scores_at(scores: Scores, row: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the scores of items at rows, shape (pairs,)."""
    if isinstance(scores, np.ndarray):
        return scores[row, item]
    found, of_row = np.empty(len(row)), np.zeros(scores.shape[1], dtype=scores.dtype)
    by_row = np.argsort(row, kind="stable")
    for places in np.split(by_row, np.flatnonzero(np.diff(row[by_row])) + 1) if len(row) else ():
        stored = slice(*scores.indptr[row[places[0]] :][:2])
        of_row[scores.indices[stored]] = scores.data[stored]
        found[places] = of_row[item[places]]
        of_row[scores.indices[stored]] = 0  # all are 0 again
    return found


def ranks_of(scores: Scores, moments: Moments, target: np.ndarray) -> np.ndarray:
    """Return the rank, from 1, of an item per moment, (moments,), among those that it may get, as in `best_items`."""
    if isinstance(scores, csr_array) and scores.nnz < DENSE_SHARE * len(target) * moments.items:
        return np.array([_rank_of_sparse(scores, moments, row, item) for row, item in enumerate(target.tolist())])
    place, ranks = moments.order.place, np.empty(len(target), dtype=np.int64)
    step = max(1, len(target) if isinstance(scores, np.ndarray) else SCORES_AT_ONCE // moments.items)
    for start in range(0, len(target), step):  # so few dense rows that memory is used again
        rows = slice(start, start + step)
        dense, items = scores[rows] if isinstance(scores, np.ndarray) else scores[rows].toarray(), target[rows]
        own = dense[np.arange(len(items)), items][:, None]
        is_before = (dense > own) | ((dense == own) & (place < place[items][:, None]))
        ranks[rows] = 1 + (is_before & moments.mask[rows]).sum(axis=1)
    return ranks


def _rank_of_sparse(scores: csr_array, moments: Moments, row: int, item: int) -> int:
    place, own = moments.order.place, slice(*scores.indptr[row : row + 2])
    items, values = scores.indices[own], scores.data[own]
    score = values[items == item].sum()  # 0 if none is stored
    counts = (values != 0) & moments.allows(row, items)
    items, values = items[counts], values[counts]
    before = int(((values > score) | ((values == score) & (place[items] < place[item]))).sum())
    if score <= 0:  # all other items have 0: those before it in the order, or all
        end = place[item] if score == 0 else moments.items
        before += moments.count(row, end) - int((place[items] < end).sum())
    return 1 + before
