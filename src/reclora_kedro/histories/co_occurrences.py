"""Items as vectors of the users who liked them, which know nothing of texts."""

import numpy as np
from scipy import sparse

from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.histories.sequences import user_of_events

CO_OCCURRENCE = "co_occurrence"
"""The encoder that reads likes of the training split rather than descriptions."""

SMALLEST_SINGULAR_VALUE = 1e-6  # of a matrix whose greatest is 1; below it, a direction is noise


def co_occurrence_vectors(log: InteractionLog, components: int, seed: int) -> np.ndarray:
    """Singular vectors of the training likes: users by items, each like over the roots of its user's and item's counts.

    They span the co-occurrences that the ideal low-pass filter of GF-CF keeps (Shen et al. 2021, arXiv 2108.07567).

    Args:
        log: the log; its likes in the training split are read, and each user's of an item once.
        components: singular vectors to keep, those of the greatest singular values; always fewer than users or items.
        seed: of the vector that the solver starts from.

    Returns:
        float32, shape (items, at most components). An item without a training like has zeros: its cosine is 0.

    Raises:
        ValueError: fewer than two users, or items, have a training like.
    """
    from sklearn.decomposition import TruncatedSVD

    liked = log.training_events() & (log.sequences.label == 1)
    users, user = np.unique(user_of_events(log.sequences.offsets)[liked], return_inverse=True)
    items, item = np.unique(log.sequences.item_index[liked], return_inverse=True)
    if (most := min(len(users), len(items)) - 1) < 1:
        raise ValueError(
            f"co_occurrence compares items by who liked them, but {len(users)} users like {len(items)} items in the "
            "training split, and two of each are needed: name another encoder in history.item_embedding.encoders."
        )
    likes = sparse.csr_array((np.ones(len(user)), (user, item)))
    likes.data[:] = 1  # those of one user and item had been summed
    by_user, by_item = (sparse.diags_array(likes.sum(axis=axis) ** -0.5) for axis in (1, 0))
    svd = TruncatedSVD(min(components, most), algorithm="arpack", random_state=seed).fit(by_user @ likes @ by_item)
    directions = svd.components_[svd.singular_values_ > SMALLEST_SINGULAR_VALUE]
    vectors = np.zeros((log.items.height, len(directions)), dtype=np.float32)
    vectors[items] = directions.T
    return vectors
