"""Items as vectors of the users who liked them, which know nothing of texts."""

import numpy as np
from scipy import sparse

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.retrieval import unit_vectors
from reclora_kedro.histories.sequences import user_of_events

CO_OCCURRENCE = "co_occurrence"
"""The encoder that reads likes of the training split rather than descriptions."""

COMPONENTS = 64
"""Dimensions of the vectors of each part of the users."""

SMALLEST_SINGULAR_VALUE = 1e-6  # of a matrix whose greatest is 1; below it, a direction is noise


def cross_fitted_vectors(log: InteractionLog, user_folds: np.ndarray, seed: int) -> np.ndarray:
    """For each part of the users, vectors that none of their own likes has changed: those of all others' likes.

    What learns from their cosines reads of a training sample what it will read of a new one: its like is none of those
    that the vectors are made of.

    Args:
        log: see `co_occurrence_vectors`.
        user_folds: the part of each user, from 0, shape (users,); of a single part, everybody's likes count.
        seed: see `co_occurrence_vectors`.

    Returns:
        float32, shape (parts, items, `COMPONENTS`), of length one or, of items without such a like, zero.

    Raises:
        ValueError: fewer than two users, or items, have a training like outside a part.
    """
    folds = int(user_folds.max()) + 1
    counted = [user_folds != fold for fold in range(folds)] if folds > 1 else [user_folds == 0]
    vectors = np.zeros((folds, log.items.height, COMPONENTS), dtype=np.float32)
    for part, users in zip(vectors, counted, strict=True):
        of_others = unit_vectors(co_occurrence_vectors(log, COMPONENTS, seed, users))
        part[:, : of_others.shape[1]] = of_others
    return vectors


def co_occurrence_vectors(
    log: InteractionLog, components: int, seed: int, users: np.ndarray | None = None
) -> np.ndarray:
    """Singular vectors of the training likes: users by items, each like over the roots of its user's and item's counts.

    They span the co-occurrences that the ideal low-pass filter of GF-CF keeps (Shen et al. 2021, arXiv 2108.07567).

    Args:
        log: the log; its likes in the training split are read, and each user's of an item once.
        components: singular vectors to keep, those of the greatest singular values; always fewer than users or items.
        seed: of the vector that the solver starts from.
        users: whose likes count, bool, shape (users,); None: everybody's.

    Returns:
        float32, shape (items, at most components). An item without a training like has zeros: its cosine is 0.

    Raises:
        ValueError: fewer than two users, or items, have a training like.
    """
    from sklearn.decomposition import TruncatedSVD

    liked, owner = log.training_events() & (log.sequences.label == 1), user_of_events(log.sequences.offsets)
    if users is not None:
        liked &= users[owner]
    likers, user = np.unique(owner[liked], return_inverse=True)
    items, item = np.unique(log.sequences.item_index[liked], return_inverse=True)
    if (most := min(len(likers), len(items)) - 1) < 1:
        others = "" if users is None else f", of {users.sum()} users in other parts than one,"
        raise ValueError(
            f"Items are compared by who liked them, but{others} {len(likers)} users like {len(items)} items in the "
            "training split, and two of each are needed: name another encoder than co_occurrence in "
            "history.item_embedding.encoders, and set lens.co_occurrence_folds to 0."
        )
    likes = sparse.csr_array((np.ones(len(user)), (user, item)))
    likes.data[:] = 1  # those of one user and item had been summed
    by_user, by_item = (sparse.diags_array(likes.sum(axis=axis) ** -0.5) for axis in (1, 0))
    svd = TruncatedSVD(min(components, most), algorithm="arpack", random_state=seed).fit(by_user @ likes @ by_item)
    directions = svd.components_[svd.singular_values_ > SMALLEST_SINGULAR_VALUE]
    vectors = np.zeros((log.items.height, len(directions)), dtype=np.float32)
    vectors[items] = directions.T
    return vectors
