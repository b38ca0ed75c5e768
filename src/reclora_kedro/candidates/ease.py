"""EASE: a linear regression of taken items on each other, in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Self

import numpy as np
from scipy.linalg import blas, lapack
from scipy.sparse import csr_array, diags_array
from threadpoolctl import threadpool_info

ROWS_AT_ONCE = 1024
DENSE_PAIRS = 500  # products of a dense matrix, in the time of one of a sparse one


@dataclass(frozen=True, eq=False)
class WordWeights:
    """Weights of `item_weights` of rows that are words, as a product: ``(L C L' - diag(own)) diag(scale)``.

    A word of one item adds to the diagonal of X'X alone, D, so that the others, U, give its inverse by Woodbury's
    formula: ``D^-1 - L C L'`` with ``L = D^-1 U'`` and ``C = (I + U D^-1 U')^-1``. For few words of several items, this
    takes a small part of the time of an inverse, and of a product with it.
    """

    factor: csr_array  # L: float32, shape (items, words)
    core: np.ndarray  # C: float32, shape (words, words)
    own: np.ndarray  # shape (items,)
    scale: np.ndarray  # shape (items,)

    @classmethod
    def learned(cls, words: csr_array, regularization: float) -> Self | np.ndarray:
        """Learn from words, (words, items); where more of them than items are of several items, the weights alone."""
        is_shared = np.diff(words.indptr) > 1
        shared, alone = words[is_shared], words[~is_shared]
        if shared.shape[0] > words.shape[1]:
            return item_weights(words, regularization)
        diagonal = (np.float32(regularization) + (alone**2).sum(axis=0)).astype(np.float32)
        root = csr_array(diags_array(diagonal**-0.5) @ shared.T)
        factor, core = csr_array(diags_array(diagonal**-0.5) @ root), inverse(root, 1.0)
        own = _diagonal(factor, core @ factor.T)
        return cls(factor, core, own, 1 / (1 / diagonal - own))

    def __mul__(self, strength: np.float32) -> "WordWeights":
        return WordWeights(self.factor, self.core, self.own, strength * self.scale)

    def pulls(self, inverse: np.ndarray) -> tuple[np.ndarray, Iterator[np.ndarray]]:
        """Return the diagonal of the product of P of `item_weights` with these weights, and its rows by blocks."""
        words = self.core @ (self.factor.T.tocsr() @ inverse)
        diagonal = self.scale * (_diagonal(self.factor, words) - inverse.diagonal() * self.own)
        blocks = _blocks(len(inverse))
        rows = (self.scale * ((self.factor @ words[:, own]).T - inverse[own] * self.own) for own in blocks)
        return diagonal, rows


Prior = np.ndarray | WordWeights


def _diagonal(left: csr_array, right: np.ndarray) -> np.ndarray:
    """Return the diagonal of the product of a sparse matrix and a dense one, shape (rows,)."""
    row = np.repeat(np.arange(left.shape[0]), np.diff(left.indptr))
    return np.bincount(row, left.data * right[left.indices, row], left.shape[0]).astype(np.float32)


def item_weights(user_items: csr_array, regularization: float, prior: Prior | None = None) -> np.ndarray:
    """Return the weights of EASE^R (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, arXiv 1905.03375).

    They minimise ``|X - X B|^2 + regularization |B - prior|^2`` among those whose diagonal is zero. With
    ``P = (X'X + regularization I)^-1`` and ``Q = regularization P prior``, that is
    ``B = I + Q - P diag((1 + diag(Q)) / diag(P))``, without a prior ``I - P diag(1 / diag(P))``.

    X, (users, items), has one where the user took the item, else zero. B stays near the prior, (items, items), with a
    zero diagonal, the more the rarer items are; None for 0. Row i of B, float32, (items, items), has what an event of
    item i adds to each item's score; rows of items that nobody took are those of the prior.

    Examples:
        >>> item_weights(csr_array(np.array([[1, 1, 0], [1, 1, 0]])), 1.0).round(2) + 0  # no negative zeros
        array([[0.  , 0.67, 0.  ],
               [0.67, 0.  , 0.  ],
               [0.  , 0.  , 0.  ]], dtype=float32)
    """
    return weights_of_inverse(inverse(user_items, regularization), regularization, prior)


def gram(user_items: csr_array) -> np.ndarray:
    """Return X'X of `item_weights`, float32, shape (items, items), in columns; only its lower triangle counts."""
    user_items, (users, items) = user_items.astype(np.float32), user_items.shape
    if DENSE_PAIRS * (np.diff(user_items.indptr).astype(np.float64) ** 2).sum() > users * float(items) ** 2:
        products = np.zeros((items, items), dtype=np.float32, order="F")
        for rows in _blocks(users):
            products = blas.ssyrk(1.0, user_items[rows].toarray().T, beta=1.0, c=products, lower=True, overwrite_c=True)
        return products
    takers, products = user_items.T.tocsr(), np.empty((items, items), dtype=np.float32, order="F")
    for rows in _blocks(items):
        products.T[rows] = (takers[rows] @ user_items).toarray()
    return products


def inverse(user_items: csr_array, regularization: float) -> np.ndarray:
    """Return P of `item_weights` from X and the regularization, float32, shape (items, items)."""
    is_taken = np.bincount(user_items.indices, minlength=user_items.shape[1]) > 0
    if is_taken.all():
        return inverse_of_gram(gram(user_items), regularization)
    found = np.diag(np.full(len(is_taken), 1 / regularization, dtype=np.float32))
    found[np.ix_(is_taken, is_taken)] = inverse_of_gram(gram(user_items[:, is_taken]), regularization)
    return found


def inverse_of_gram(products: np.ndarray, regularization: float) -> np.ndarray:
    """Return P of `item_weights` from X'X, see `gram`, in whose memory it is made."""
    if not (items := len(products)):
        return products
    # LAPACK works in place on columns: the rows of a symmetric matrix are its columns.
    np.fill_diagonal(products, products.diagonal() + np.float32(regularization))
    products, not_factorized = lapack.spotrf(products, lower=True, clean=False, overwrite_a=True)
    products, not_inverted = lapack.spotri(products, lower=True, overwrite_c=True)
    assert not_factorized == not_inverted == 0  # with something on its diagonal, a Gram matrix is positive definite
    inverse = products.T  # in rows; the upper triangle holds the inverse
    for rows in _blocks(items):
        block = inverse[rows, rows]
        inverse[rows, rows] = np.triu(block) + np.triu(block, 1).T
        inverse[rows.stop :, rows] = inverse[rows, rows.stop :].T
    return inverse


def weights_of_inverse(inverse: np.ndarray, regularization: float, prior: Prior | None = None) -> np.ndarray:
    """Return `item_weights` from P, in its memory if possible."""
    scale, blocks = np.float32(regularization), _blocks(len(inverse))
    of_prior: np.ndarray | np.float32 = np.float32(0)
    pulled: Iterator[np.ndarray | np.float32] = repeat(np.float32(0), len(blocks))
    if isinstance(prior, WordWeights):
        of_prior, pulled = prior.pulls(inverse)
    elif prior is not None:
        of_prior, pulled = np.einsum("ij,ij->j", inverse, prior), (inverse[rows] @ prior for rows in blocks)
    divisor = inverse.diagonal() / -(1 + scale * of_prior)
    weights = np.require(inverse, requirements="W")
    for rows, block in zip(blocks, pulled, strict=True):
        weights[rows] = weights[rows] / divisor + scale * block
    np.fill_diagonal(weights, 0)
    return weights


def blas_threads() -> int:
    """Return the number of threads of linear algebra."""
    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def _blocks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE)]
