"""EASE: a linear regression of taken items on each other, in closed form."""

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array

ROWS_AT_ONCE = 1024


def item_weights(taken: csr_array, regularization: float) -> np.ndarray:
    """Return the weights of EASE^R (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, arXiv 1905.03375).

    With ``P = (X'X + regularization I)^-1``, the weights ``B = I - P diag(1 / diag(P))`` minimise
    ``|X - X B|^2 + regularization |B|^2`` among those whose diagonal is zero.

    Args:
        taken: X, one if the user took the item, else zero, shape (users, items).
        regularization: added to the diagonal, > 0.

    Returns:
        B, float32, shape (items, items): row i has what an event of item i adds to each item's score. Rows and columns
        of items that nobody took are zero.

    Examples:
        >>> item_weights(csr_array(np.array([[1, 1, 0], [1, 1, 0]])), 1.0).round(2) + 0  # no negative zeros
        array([[0.  , 0.67, 0.  ],
               [0.67, 0.  , 0.  ],
               [0.  , 0.  , 0.  ]], dtype=float32)
    """
    taken = taken.astype(np.float32)
    # LAPACK works in place on columns: the rows of a symmetric matrix are its columns.
    inverse = np.asfortranarray((taken.T @ taken).toarray().T)
    np.fill_diagonal(inverse, inverse.diagonal() + np.float32(regularization))
    inverse, not_factorized = lapack.spotrf(inverse, lower=True, clean=False, overwrite_a=True)
    inverse, not_inverted = lapack.spotri(inverse, lower=True, overwrite_c=True)
    assert not_factorized == not_inverted == 0  # with something on its diagonal, a Gram matrix is positive definite
    weights = inverse.T  # in rows; the upper triangle holds the inverse
    for start in range(0, len(weights), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        block = weights[rows, rows]
        weights[rows, rows] = np.triu(block) + np.triu(block, 1).T
        weights[rows.stop :, rows] = weights[rows, rows.stop :].T
    weights /= -weights.diagonal()
    np.fill_diagonal(weights, 0)
    return weights
