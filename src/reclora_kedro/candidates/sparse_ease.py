"""EASE of large catalogues: the same regression by blocks of items, of which the greatest weights are kept."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import blas, lapack
from scipy.sparse import csr_array, diags_array, vstack
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.ease import blas_threads, gram
from reclora_kedro.candidates.transitions import greatest
from reclora_kedro.progress import Progress

SOLVED = 512  # items whose weights one block gives
HEADS = 6144  # items of every block
ITEMS_OF_BLOCK = 8192
WEIGHTS_OF_ITEM = 1000  # kept, at most
WEIGHTS = 2**27  # kept of all items; each takes 8 bytes, and 20 more while they are made
NEAREST = 200  # items of each item, by which blocks are made
ITEMS_OF_ROW = 300  # of a user (or word), drawn, that tell what is near: pairs grow with their square
PAIRS_AT_ONCE = 2**25  # of items, whose numbers take 256 MiB
HEAD_PAIRS = 2**28  # of an item of several blocks and one of every block, whose part of factors is made once: 1 GiB
MOST_THREADS = 8  # each with half a GiB


def sparse_item_weights(user_items: csr_array, regularization: float, prior: csr_array | None = None) -> csr_array:
    """Return the greatest weights of EASE, see `item_weights`, which are exact if one block holds all items.

    As Steck does (Markov Random Fields for Collaborative Filtering, arXiv 1910.09645), each row of
    ``P = (X'X + regularization I)^-1`` is that of the inverse among some items only: those that occur most, those of
    the row's block, which often occur together, and those with which these have most to do. Most of X, (users, items),
    and of the prior, which B stays near, are zeros.

    Returns:
        B, float32, shape (items, items): row i has what an event of item i adds to each item's score. The rows of
        ``regularization P prior`` are those of the prior outside their block, times the diagonal.
    """
    user_items, prior = user_items.astype(np.float32, copy=False), None if prior is None else prior.tocsr()
    items, ridge = user_items.shape[1], np.float32(regularization)
    most = max(1, min(WEIGHTS_OF_ITEM, WEIGHTS // items))
    found = _Found.empty(items, most, prior is not None)
    _solve_blocks(found, user_items, ridge, prior)
    # Rows are written over those that they are made of, of which there are no fewer.
    data, indices, ends = found.weights.reshape(-1), found.place.reshape(-1), np.zeros(items + 1, dtype=np.int32)
    step = max(1, PAIRS_AT_ONCE // items)
    for start in range(0, items, step):
        rows = found.rows(slice(start, start + step))
        if prior is not None:
            rows = rows + diags_array(ridge * found.diagonal[start : start + step]) @ prior[start : start + step]
        rows = greatest(_without_diagonal(rows.tocsr(), start), most)
        kept = slice(ends[start], ends[start] + rows.nnz)
        data[kept], indices[kept] = rows.data, rows.indices
        ends[start + 1 : start + 1 + rows.shape[0]] = ends[start] + rows.indptr[1:]
    return csr_array((data[: ends[-1]].copy(), indices[: ends[-1]].copy(), ends), shape=(items, items))


@dataclass(frozen=True, eq=False)
class _Found:
    """What the blocks give: of each item, the greatest weights before they are scaled."""

    place: np.ndarray  # other items, shape (items, most)
    weights: np.ndarray  # their numbers in the inverse, shape (items, most)
    pulls: np.ndarray | None  # what the prior adds to these, shape (items, most); None without one
    diagonal: np.ndarray  # of the inverse, shape (items,)
    pulled: np.ndarray  # what the prior adds to the diagonal, shape (items,)

    @classmethod
    def empty(cls, items: int, limit: int, has_prior: bool) -> Self:
        weights = np.zeros((items, limit), dtype=np.float32)
        pulls = np.zeros_like(weights) if has_prior else None
        diagonal, pulled = np.zeros((2, items), dtype=np.float32)
        return cls(np.zeros((items, limit), dtype=np.int32), weights, pulls, diagonal, pulled)

    def rows(self, part: slice) -> csr_array:
        """Return the weights of some items, with zeros among them."""
        place, most = self.place[part], self.place.shape[1]
        weights = self.weights[part] * (-(1 + self.pulled[place]) / self.diagonal[place])
        if self.pulls is not None:
            weights += self.pulls[part]
        ends = np.arange(0, weights.size + 1, most, dtype=np.int32)
        return csr_array((weights.ravel(), place.ravel(), ends), shape=(len(place), len(self.place)))


def _solve_blocks(found: _Found, user_items: csr_array, ridge: np.float32, prior: csr_array | None) -> None:
    """Find the weights of all items, block by block."""
    users = user_items.multiply(user_items).sum(axis=0) + ridge
    found.diagonal[:] = 1 / users  # as they are of items that have no other one near
    near = _near(user_items, users, prior)
    clusters = list(_clusters(near))
    blocks = _Blocks(user_items, users, near)

    def solve(solved: np.ndarray) -> int:
        block, own, inverse = blocks.inverse(solved)
        row, pull = np.arange(len(solved)), np.float32(0)
        found.diagonal[solved] = inverse[row, own]
        if prior is not None:
            among = prior[block][:, block].toarray()
            pull = inverse @ among
            pull -= found.diagonal[solved, None] * among[own]
            pull *= ridge
            found.pulled[solved] = pull[row, own]
        size = np.abs(pull - inverse * users[block])
        size[row, own] = 0
        count = min(found.place.shape[1], len(block))
        kept = np.argpartition(-size, count - 1, axis=1)[:, :count]
        found.place[solved, :count] = block[kept]
        found.weights[solved, :count] = np.take_along_axis(inverse, kept, axis=1)
        if found.pulls is not None:
            found.pulls[solved, :count] = np.take_along_axis(pull, kept, axis=1)
        return len(solved)

    with _threads() as threads, Progress("EASE by blocks", sum(map(len, clusters)), "items") as progress:
        for solved in threads.map(solve, clusters):
            progress.update(solved)


class _Blocks:
    """Inverses of X'X + ridge among the items of blocks.

    Each block is of the common items and a tail of others. With G their part of X'X + ridge, its Cholesky factor is
    ``[[L, 0], [R, F]]``, where ``L L' = G[common, common]``, ``R = G[tail, common] L'^-1`` and
    ``F F' = G[tail, tail] - R R'``: L is made once, and so are the rows of R of items that are in several blocks.
    """

    def __init__(self, user_items: csr_array, users: np.ndarray, near: csr_array) -> None:
        self.users, self._near, self._takers = users, near, user_items.T.tocsr()  # users: the diagonal
        order = np.argsort(-near.sum(axis=0), kind="stable")
        self.common = order[:HEADS]
        self._heads = user_items[:, self.common].tocsr()
        of_common = gram(self._heads)
        np.fill_diagonal(of_common, users[self.common])
        self._factor = _factor(of_common)
        # What is near to many others is in many blocks.
        several = order[HEADS:][: HEAD_PAIRS // max(1, HEADS)]
        self._place = np.full(len(users), -1)
        self._place[several] = np.arange(len(several))
        self._kept = np.empty((len(several), len(self.common)), dtype=np.float32)

        def keep(start: int) -> None:
            rows = slice(start, start + SOLVED)
            self._kept[rows] = self._reduced(several[rows])

        with _threads() as threads:
            list(threads.map(keep, range(0, len(several), SOLVED)))

    def inverse(self, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the items of the block of some items, the places of these in it, and their rows of its inverse."""
        tail, heads = _tail(self._near, solved, self.common), len(self.common)
        block, of_tail, reduced = np.concatenate([self.common, tail]), self._takers[tail], self._kept[self._place[tail]]
        if len(new := np.flatnonzero(self._place[tail] < 0)):
            reduced[new] = self._reduced(tail[new])
        among = gram(of_tail.T.tocsr())
        np.fill_diagonal(among, self.users[tail])
        if reduced.size:
            among = blas.ssyrk(-1, reduced.T, beta=1, c=among, trans=True, lower=True, overwrite_c=True)
        factor = _factor(among)
        order = np.argsort(block)
        own = order[np.searchsorted(block, solved, sorter=order)]
        rows = np.zeros((len(block), len(solved)), dtype=np.float32)
        rows[own, np.arange(len(solved))] = 1
        is_common = own < heads
        above, below = np.asfortranarray(rows[:heads, is_common]), np.asfortranarray(rows[heads:])
        above = _solved(self._factor, above)
        below[:, is_common] -= reduced @ above
        below = _solved(factor, _solved(factor, below), transposed=True)
        rest = np.asfortranarray(-(reduced.T @ below))
        rest[:, is_common] += above
        return block, own, np.concatenate([_solved(self._factor, rest, transposed=True), below]).T

    def _reduced(self, items: np.ndarray) -> np.ndarray:
        with_common = (self._takers[items] @ self._heads).toarray()
        return _solved(self._factor, with_common.T).T


def _factor(matrix: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factor of a matrix, in its place."""
    factor, failed = lapack.spotrf(matrix, lower=True, clean=False, overwrite_a=True) if matrix.size else (matrix, 0)
    assert not failed  # with something on its diagonal, a Gram matrix is positive definite
    return factor


def _solved(factor: np.ndarray, right: np.ndarray, transposed: bool = False) -> np.ndarray:
    """Return the solution of a triangular system, in the place of its right side."""
    return blas.strsm(1, factor, right, lower=True, trans_a=transposed, overwrite_b=True) if right.size else right


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Give as many threads as linear algebra has, each of which then has one: products of sparse matrices have one."""
    count = min(blas_threads(), MOST_THREADS)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as threads:
        yield threads


def _near(user_items: csr_array, users: np.ndarray, prior: csr_array | None) -> csr_array:
    """Return roughly how much each item has to do with its nearest ones, from drawn items of each row."""
    few, items = _few_of_each_row(user_items), user_items.shape[1]
    takers = few.T.tocsr()
    step = max(1, PAIRS_AT_ONCE // items)

    def nearest(start: int) -> csr_array:
        part = slice(start, start + step)
        rows = greatest(_without_diagonal(takers[part] @ few, start), NEAREST)
        rows.data *= np.repeat(1 / users[part], np.diff(rows.indptr))
        return rows if prior is None else rows + abs(greatest(prior[part], NEAREST))

    with _threads() as threads:
        return vstack(list(threads.map(nearest, range(0, items, step))), format="csr")


def _few_of_each_row(user_items: csr_array) -> csr_array:
    """Draw at most `ITEMS_OF_ROW` items of each row."""
    random, lengths, drawn = np.random.default_rng(0), np.diff(user_items.indptr), np.ones(user_items.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > ITEMS_OF_ROW).tolist():
        of_row = np.zeros(lengths[row], dtype=bool)
        of_row[random.permutation(lengths[row])[:ITEMS_OF_ROW]] = True
        drawn[user_items.indptr[row] : user_items.indptr[row + 1]] = of_row
    ends = np.append(0, np.minimum(lengths, ITEMS_OF_ROW).cumsum()).astype(user_items.indptr.dtype)
    return csr_array((user_items.data[drawn], user_items.indices[drawn], ends), shape=user_items.shape)


def _clusters(near: csr_array) -> Iterator[np.ndarray]:
    """Yield blocks of at most `SOLVED` items, each grown from the item that occurs most by what is near to it."""
    both_ways = near, near.T.tocsr()
    occurs = near.sum(axis=0) + near.sum(axis=1)
    order = np.argsort(-occurs, kind="stable")
    free = occurs > 0
    while len(order := order[free[order]]):
        block, pull, new = list[np.ndarray](), np.zeros(len(free), dtype=np.float32), order[:1]
        size = 0
        while len(new):
            block.append(new)
            free[new], size = False, size + len(new)
            pull += sum(each[new].sum(axis=0) for each in both_ways)
            nearest, room = np.flatnonzero(free & (pull > 0)), min(size, SOLVED - size)
            if len(nearest) > room:
                nearest = nearest[np.argpartition(-pull[nearest], room - 1)[:room]] if room else nearest[:0]
            new = nearest if len(nearest) else order[free[order]][:room]
        yield np.sort(np.concatenate(block))


def _tail(near: csr_array, solved: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Return the items of a block beside the common ones."""
    pull = near[solved].sum(axis=0)
    pull[solved] = np.inf
    pull[common] = 0
    room = max(ITEMS_OF_BLOCK - len(common), int(np.isinf(pull).sum()))
    others = np.flatnonzero(pull > 0)
    return others if len(others) <= room else np.sort(others[np.argpartition(-pull[others], room - 1)[:room]])


def _without_diagonal(rows: csr_array, first: int) -> csr_array:
    """Drop the diagonal of a matrix from rows of it, the first of which is given."""
    row = np.repeat(np.arange(first, first + rows.shape[0]), np.diff(rows.indptr))
    rows.data[rows.indices == row] = 0
    rows.eliminate_zeros()
    return rows
