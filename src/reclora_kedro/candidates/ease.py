"""EASE: a linear regression of taken items on each other, in closed form."""

from collections.abc import Iterator
from functools import partial
from itertools import repeat

import numpy as np
from scipy.linalg import blas, lapack
from scipy.sparse import csr_array
from threadpoolctl import threadpool_info

from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards

ROWS_AT_ONCE = 1024
DENSE_PAIRS = 500  # products of a dense matrix, in the time of one of a sparse one


def item_weights(user_items: csr_array, regularization: float, prior: np.ndarray | None = None) -> np.ndarray:
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
    return weights_of_inverse(inverse((user_items, regularization)), regularization, prior)


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


def inverse(regression: tuple[csr_array, float]) -> np.ndarray:
    """Return P of `item_weights` from X and the regularization, float32, shape (items, items)."""
    user_items, regularization = regression
    return inverse_of_gram(gram(user_items), regularization)


def inverse_of_gram(products: np.ndarray, regularization: float) -> np.ndarray:
    """Return P of `item_weights` from X'X, see `gram`, in whose memory it is made."""
    items = len(products)  # LAPACK works in place on columns: the rows of a symmetric matrix are its columns
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


def weights_of_inverse(
    inverse: np.ndarray, regularization: float, prior: np.ndarray | None = None, engine: EngineConfig = LOCAL
) -> np.ndarray:
    """Return `item_weights` from P, in its memory if possible; workers of the engine share the product with a prior."""
    scale, blocks = np.float32(regularization), _blocks(len(inverse))
    of_prior = np.float32(0)
    pulled: Iterator[np.ndarray | np.float32] = repeat(of_prior, len(blocks))
    if prior is not None:
        of_prior = scale * np.einsum("ij,ij->j", inverse, prior)
        product = partial(_product, inverse, prior)
        pulled = map_shards(product, blocks, engine, "EASE") if engine.spreads else map(product, blocks)
    divisor = inverse.diagonal() / -(1 + of_prior)
    weights = np.require(inverse, requirements="W")
    for rows, block in zip(blocks, pulled, strict=True):
        weights[rows] = weights[rows] / divisor + scale * block
    np.fill_diagonal(weights, 0)
    return weights


def blas_threads() -> int:
    """Return the number of threads of linear algebra."""
    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def _product(left: np.ndarray, right: np.ndarray, rows: slice) -> np.ndarray:
    return left[rows] @ right


def _blocks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE)]
