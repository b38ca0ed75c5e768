"""EASE: a linear regression of taken items on each other, in closed form."""

import numpy as np
from scipy.linalg import blas, lapack
from scipy.sparse import csr_array

ROWS_AT_ONCE = 1024
DENSE_PAIRS = 500  # products of a dense matrix, in the time of one of a sparse one


def item_weights(taken: csr_array, regularization: float, prior: np.ndarray | None = None) -> np.ndarray:
    """Return the weights of EASE^R (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, arXiv 1905.03375).

    They minimise ``|X - X B|^2 + regularization |B - prior|^2`` among those whose diagonal is zero. With
    ``P = (X'X + regularization I)^-1`` and ``Q = regularization P prior``, that is
    ``B = I + Q - P diag((1 + diag(Q)) / diag(P))``, without a prior ``I - P diag(1 / diag(P))``.

    Args:
        taken: X, one if the user took the item, else zero, shape (users, items).
        regularization: added to the diagonal, > 0.
        prior: weights that B stays near, the more the rarer items are: zero diagonal, shape (items, items); None for 0.

    Returns:
        B, float32, shape (items, items): row i has what an event of item i adds to each item's score. Rows of
        items that nobody took are those of the prior.

    Examples:
        >>> item_weights(csr_array(np.array([[1, 1, 0], [1, 1, 0]])), 1.0).round(2) + 0  # no negative zeros
        array([[0.  , 0.67, 0.  ],
               [0.67, 0.  , 0.  ],
               [0.  , 0.  , 0.  ]], dtype=float32)
    """
    return weights_of_gram(gram(taken), regularization, prior)


def gram(taken: csr_array) -> np.ndarray:
    """Return X'X of `item_weights`, float32, shape (items, items), in columns; only its lower triangle counts."""
    taken, (users, items) = taken.astype(np.float32), taken.shape
    if DENSE_PAIRS * (np.diff(taken.indptr).astype(np.float64) ** 2).sum() > users * float(items) ** 2:
        products = np.zeros((items, items), dtype=np.float32, order="F")
        for rows in _blocks(users):
            products = blas.ssyrk(1.0, taken[rows].toarray().T, beta=1.0, c=products, lower=True, overwrite_c=True)
        return products
    takers, products = taken.T.tocsr(), np.empty((items, items), dtype=np.float32, order="F")
    for rows in _blocks(items):
        products.T[rows] = (takers[rows] @ taken).toarray()
    return products


def weights_of_gram(inverse: np.ndarray, regularization: float, prior: np.ndarray | None = None) -> np.ndarray:
    """Return `item_weights` from X'X, see `gram`, in whose memory they are made."""
    items = len(inverse)  # LAPACK works in place on columns: the rows of a symmetric matrix are its columns
    np.fill_diagonal(inverse, inverse.diagonal() + np.float32(regularization))
    inverse, not_factorized = lapack.spotrf(inverse, lower=True, clean=False, overwrite_a=True)
    inverse, not_inverted = lapack.spotri(inverse, lower=True, overwrite_c=True)
    assert not_factorized == not_inverted == 0  # with something on its diagonal, a Gram matrix is positive definite
    weights = inverse.T  # in rows; the upper triangle holds the inverse
    for rows in _blocks(items):
        block = weights[rows, rows]
        weights[rows, rows] = np.triu(block) + np.triu(block, 1).T
        weights[rows.stop :, rows] = weights[rows, rows.stop :].T
    scale = np.float32(regularization)
    of_prior = 0 if prior is None else scale * np.einsum("ij,ij->j", weights, prior)
    divisor = weights.diagonal() / -(1 + of_prior)
    for rows in _blocks(items):
        pulled = 0 if prior is None else scale * (weights[rows] @ prior)
        weights[rows] = weights[rows] / divisor + pulled
    np.fill_diagonal(weights, 0)
    return weights


def _blocks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE)]
