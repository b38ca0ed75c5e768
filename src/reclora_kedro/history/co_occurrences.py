"""Item vectors from the users who liked them, without texts."""

import numpy as np
from scipy import sparse

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.history.sequences import user_of_events

COMPONENTS = 64  # dimensions of the vectors of each fold
SMALLEST_SINGULAR_VALUE = 1e-6  # of a matrix whose greatest is 1; below it, a direction is noise


def cross_fitted_vectors(log: InteractionLog, user_folds: np.ndarray, seed: int) -> np.ndarray:
    """Return, for each fold of the users, item vectors from the likes of all users outside the fold.

    Training samples then have cosines like new ones, as the vectors do not contain their own likes. `user_folds` has
    the fold of each user, from 0, shape (users,); with a single fold, all likes count. Vectors are float32, shape
    (folds, items, `COMPONENTS`), of unit length, or zero for items without such a like; Fault as of
    `co_occurrence_vectors`.
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
    """Return item vectors by singular value decomposition of the training likes, normalised by both degrees.

    Each like of a user and an item is 1 / √(likes of the user · likes of the item); the vectors span the
    co-occurrences that GF-CF's ideal low-pass filter keeps (Shen et al. 2021, arXiv 2108.07567). They are float32,
    shape (items, at most components); zero for items without a training like. `users` says whose likes count, bool,
    shape (users,), None for all; a Fault is raised if fewer than two users, or items, have a training like.
    """
    from sklearn.decomposition import TruncatedSVD

    liked, owner = log.training_events() & (log.sequences.label == 1), user_of_events(log.sequences.offsets)
    if users is not None:
        liked &= users[owner]
    likers, user = np.unique(owner[liked], return_inverse=True)
    items, item = np.unique(log.sequences.item_index[liked], return_inverse=True)
    if (most := min(len(likers), len(items)) - 1) < 1:
        others = "" if users is None else f", of {users.sum()} users in other parts than one,"
        encoders, folds = Parameter("history.item_embedding.encoders"), Parameter("lens.co_occurrence_folds")
        raise Fault(
            encoders,
            "compares items by who liked them (co_occurrence)",
            f"two users and items are needed, but{others} {len(likers)} users like {len(items)} items in the training "
            "split",
            ("Name another encoder, and set ", folds, " to 0"),
        )
    likes = sparse.csr_array((np.ones(len(user)), (user, item)))
    likes.data[:] = 1  # those of one user and item had been summed
    by_user, by_item = (sparse.diags_array(likes.sum(axis=axis) ** -0.5) for axis in (1, 0))
    svd = TruncatedSVD(min(components, most), algorithm="arpack", random_state=seed).fit(by_user @ likes @ by_item)
    directions = svd.components_[svd.singular_values_ > SMALLEST_SINGULAR_VALUE]
    vectors = np.zeros((log.items.height, len(directions)), dtype=np.float32)
    vectors[items] = directions.T
    return vectors
