"""Bootstrap of the AUC, and tests of all pairs of models."""

from itertools import combinations
from typing import NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap, Estimate, Floats, Integers, holm
from reclora_kedro.evaluation.records import Comparison
from reclora_kedro.evaluation.scores import PairedScores


class AucBootstrap(NamedTuple):
    """AUCs of M models on the same rows, shape (M,), and on R draws of their users, shape (M, R)."""

    models: tuple[str, ...]
    users: int
    value: Floats
    replicates: Floats

    def estimate(self) -> Estimate:
        """Return the AUC of every model with its standard error, shape (M,)."""
        return Estimate.from_draws(self.value, self.replicates, self.users)

    def differences(self, later: Integers, earlier: Integers) -> Estimate:
        """Return the AUCs of the models at `later` minus those at `earlier`, shape (pairs,)."""
        value, replicates = (part[later] - part[earlier] for part in (self.value, self.replicates))
        return Estimate.from_draws(value, replicates, self.users)


class ScoreOrder(NamedTuple):
    """One model's ranking of the rows, from which its AUC follows for any user weights."""

    likes: Integers  # user of each like, by ascending score, shape (likes,)
    dislikes: Integers  # user of each dislike, by ascending score, shape (dislikes,)
    below: Integers  # dislikes with a lower score than each like, shape (likes,)
    not_above: Integers  # dislikes with a lower or equal score, shape (likes,)
    like_weights: Floats  # shape (likes, 1)
    dislike_weights: Floats  # shape (dislikes, 1)

    @classmethod
    def from_scores(
        cls, users: Integers, labels: npt.NDArray[np.bool_], scores: Floats, weights: Floats | None = None
    ) -> Self:
        """Rank rows by score, from users (from 0), labels (True for a like), scores and weights, each of shape (rows,).

        Without weights, all rows weigh the same.
        """
        order = np.argsort(scores, kind="stable")
        by_score = (np.ones(len(scores)) if weights is None else weights)[order, None]
        users, labels, scores = users[order], labels[order], scores[order]
        below, not_above = (np.searchsorted(scores[~labels], scores[labels], side=side) for side in ("left", "right"))
        return cls(users[labels], users[~labels], below, not_above, by_score[labels], by_score[~labels])

    def auc(self, weights: Floats) -> Floats:
        """Return the AUC under user weights: (users, replicates) to (replicates,); ties count one half.

        It is NaN where no like, or no dislike, has a weight.

        Examples:
            >>> users, labels = np.array([0, 0, 1]), np.array([True, False, False])
            >>> order = ScoreOrder.from_scores(users, labels, np.array([0.5, 0.5, 0.1]))
            >>> order.auc(np.array([[1.0, 1.0], [1.0, 3.0]]))
            array([0.75 , 0.875])
        """
        likes = weights[self.likes] * self.like_weights
        outscored = np.zeros((len(self.dislikes) + 1, weights.shape[1]))
        np.cumsum(weights[self.dislikes] * self.dislike_weights, axis=0, out=outscored[1:])
        pairs = np.einsum("lr,lr->r", likes, outscored[self.below] + outscored[self.not_above]) / 2
        with np.errstate(invalid="ignore"):
            return pairs / (likes.sum(axis=0) * outscored[-1])


def auc_over_users(users: Integers, labels: npt.NDArray[np.bool_], scores: Floats) -> Estimate:
    """Return the AUC of one model, with a standard error over users that takes no draws, for any number of rows.

    It is that of clustered data (Obuchowski, Biometrics 1997): rows of one user may resemble one another. Users (from
    0), labels (True for a like; both classes occur) and scores have shape (rows,).

    Examples:
        >>> users, labels = np.array([0, 0, 1, 1]), np.array([True, False, True, False])
        >>> auc = auc_over_users(users, labels, np.array([0.9, 0.1, 0.4, 0.6]))
        >>> float(auc.value), round(float(auc.standard_error), 3), auc.units
        (0.75, 0.5, 2)
    """
    from scipy.stats import rankdata

    among_all, placed = rankdata(scores), np.empty(len(scores))
    for own in (labels, ~labels):  # the share of the rows of the other class that each row outscores
        placed[own] = (among_all[own] - rankdata(scores[own])) / np.count_nonzero(~own)
    placed[~labels] = 1 - placed[~labels]
    auc = placed[labels].mean()
    deviation = (placed - auc) / np.where(labels, np.count_nonzero(labels), np.count_nonzero(~labels))
    counts = np.bincount(users)
    units = int(np.count_nonzero(counts))
    of_users = np.bincount(users, deviation)
    with np.errstate(divide="ignore", invalid="ignore"):  # of one user, there is none
        return Estimate(auc, np.sqrt((of_users**2).sum() * np.divide(units, units - 1)), units)


def bootstrap_auc(paired: PairedScores, bootstrap: Bootstrap, row_weights: Floats | None = None) -> AucBootstrap:
    """Bootstrap the AUC of every model over users; draws of a single class (at most about a quarter) are dropped.

    Rows may have weights, shape (n,). ValueError is raised if fewer than two users have a like, or a dislike.
    """
    distinct, users = np.unique(paired.users, return_inverse=True)
    likers, dislikers = (len(np.unique(users[chosen])) for chosen in (paired.labels, ~paired.labels))
    if min(likers, dislikers) < 2:
        raise ValueError(
            f"scores: the likes are of {likers} user(s) and the dislikes of {dislikers}; expected at least 2 of each, "
            "because intervals are bootstrapped over users. Score rows of more users: raise history.prompt_rows.test "
            "and scoring.permuted_rows, or set them to null for all rows."
        )
    orders = [ScoreOrder.from_scores(users, paired.labels, scores, row_weights) for scores in paired.scores]
    replicates = [
        np.stack([order.auc(weights) for order in orders])
        for weights in bootstrap.draw_users(len(distinct), len(users))
    ]
    together = np.concatenate(replicates, axis=1)
    value = np.concatenate([order.auc(np.ones((len(distinct), 1))) for order in orders])
    return AucBootstrap(paired.models, len(distinct), value, together[:, ~np.isnan(together[0])])


def compare_models(auc: AucBootstrap, confidence: float) -> list[Comparison]:
    """Compare every pair of models on the same rows."""
    earlier, later = np.array(list(combinations(range(len(auc.models)), 2)), dtype=int).reshape(-1, 2).T
    difference = auc.differences(later, earlier)
    low, high = difference.interval(confidence)
    p_value = difference.p_value()
    columns = {
        "model_a": [auc.models[index] for index in later],
        "model_b": [auc.models[index] for index in earlier],
        "auc_difference": difference.value,
        "low": low,
        "high": high,
        "p_value": p_value,
        "p_adjusted": holm(p_value),
    }
    return cast(list[Comparison], pl.DataFrame(columns).to_dicts())
