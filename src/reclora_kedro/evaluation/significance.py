"""AUC with its uncertainty: a bootstrap over users, and tests of all pairs of models.

Rows of one user are not independent: they share the user's taste and history. So users are drawn, with all their rows
(a cluster bootstrap: Field & Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B, 2007).
All models share the draws, so that the difference of two of them is paired.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from reclora_kedro.evaluation.scores import PairedScores

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

CHUNK_WEIGHTS = 2**22  # weights of rows held at once: 32 MiB per array


class Estimate(NamedTuple):
    """Metrics, or differences of metrics, with standard errors of the same shape and the number of users they are from.

    Student's distribution has one degree of freedom fewer than there are users: with few of them, intervals of the
    normal distribution are too narrow.
    """

    value: Floats
    standard_error: Floats
    users: int

    @classmethod
    def of(cls, value: Floats, replicates: Floats, users: int) -> Self:
        """Values on all of at least two users, shape (n,), and on R draws of as many of them, shape (n, R)."""
        # Users are drawn from the sample itself, whose spread is less than that of all users by this factor.
        unbiased = np.sqrt(users / (users - 1))
        return cls(value, replicates.std(axis=1, ddof=1) * unbiased, users)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Lower and upper end of Student's interval at this level, in (0, 1)."""
        half_width = student_t.ppf((1 + confidence) / 2, self.users - 1) * self.standard_error
        return self.value - half_width, self.value + half_width

    def p_value(self) -> Floats:
        """Two-sided p-value of the hypothesis that the value is zero; 1 where it is exactly zero."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0: two models that rank alike
            ratio = np.abs(self.value) / self.standard_error
        return np.where(self.value == 0, 1.0, 2 * student_t.sf(ratio, self.users - 1))


class AucBootstrap(NamedTuple):
    """AUCs of M models on the same rows, and on R draws of the users of these rows.

    Attributes:
        models: names of the models.
        users: number of users that the rows are of.
        value: AUC on the rows, shape (M,).
        replicates: AUC on the draws, shape (M, R).
    """

    models: tuple[str, ...]
    users: int
    value: Floats
    replicates: Floats

    def estimate(self) -> Estimate:
        """AUC of every model, shape (M,)."""
        return Estimate.of(self.value, self.replicates, self.users)

    def differences(self, later: Integers, earlier: Integers) -> Estimate:
        """AUCs of the models at the places `later` less those of the models at `earlier`, shape (pairs,)."""
        value, replicates = (part[later] - part[earlier] for part in (self.value, self.replicates))
        return Estimate.of(value, replicates, self.users)


class Ranking(NamedTuple):
    """One model's order of the rows, from which its AUC follows for any weights of the users.

    Attributes:
        likes: user of each like, by ascending score, shape (likes,).
        dislikes: user of each dislike, by ascending score, shape (dislikes,).
        below: number of dislikes that score below each like, shape (likes,).
        not_above: number of dislikes that score as each like or below it, shape (likes,).
    """

    likes: Integers
    dislikes: Integers
    below: Integers
    not_above: Integers

    @classmethod
    def of(cls, users: Integers, labels: npt.NDArray[np.bool_], scores: Floats) -> Self:
        """The order of rows with these users (from 0), labels (True for a like) and scores, each of shape (rows,)."""
        order = np.argsort(scores, kind="stable")
        users, labels, scores = users[order], labels[order], scores[order]
        of_likes, of_dislikes = scores[labels], scores[~labels]
        places = (np.searchsorted(of_dislikes, of_likes, side=side) for side in ("left", "right"))
        return cls(users[labels], users[~labels], *places)

    def auc(self, weights: Floats) -> Floats:
        """AUC with each row weighted by its user; ties count one half.

        Args:
            weights: of each user, in one column per replicate, shape (users, replicates).

        Returns:
            Shape (replicates,); NaN where no like, or no dislike, has a weight.

        Examples:
            >>> ranking = Ranking.of(np.array([0, 0, 1]), np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
            >>> ranking.auc(np.array([[1.0, 1.0], [1.0, 3.0]]))
            array([0.75 , 0.875])
        """
        likes = weights[self.likes]
        outscored = np.zeros((len(self.dislikes) + 1, weights.shape[1]))
        np.cumsum(weights[self.dislikes], axis=0, out=outscored[1:])
        pairs = np.einsum("lr,lr->r", likes, outscored[self.below] + outscored[self.not_above]) / 2
        with np.errstate(invalid="ignore"):
            return pairs / (likes.sum(axis=0) * outscored[-1])


def bootstrap_auc(paired: PairedScores, samples: int, seed: int) -> AucBootstrap:
    """AUC of every model on the rows, and on `samples` draws of as many users with replacement.

    Draws without a like or without a dislike have no AUC and are left out, at most about a quarter of them.

    Args:
        paired: scores of M models on the same rows.
        samples: number of draws.
        seed: of the draws, which do not depend on the scores.

    Raises:
        ValueError: fewer than two users have a like, or fewer than two a dislike.

    Examples:
        >>> labels, scores = np.array([True, True, False, False]), np.array([[0.9, 0.4, 0.6, 0.1]])
        >>> paired = PairedScores(("lens",), np.arange(4), np.array([3, 7, 3, 7]), labels, scores)
        >>> bootstrap_auc(paired, samples=200, seed=0).value
        array([0.75])
    """
    found, users = np.unique(paired.users, return_inverse=True)
    _require_users(users, paired.labels)
    rankings = [Ranking.of(users, paired.labels, scores) for scores in paired.scores]
    everyone = np.ones((len(found), 1))
    per_chunk = max(1, CHUNK_WEIGHTS // len(users))
    replicates = [
        np.stack([ranking.auc(weights) for ranking in rankings])
        for weights in _draw_users(len(found), samples, per_chunk, seed)
    ]
    together = np.concatenate(replicates, axis=1)
    value = np.concatenate([ranking.auc(everyone) for ranking in rankings])
    return AucBootstrap(paired.models, len(found), value, together[:, ~np.isnan(together[0])])


def compare_models(auc: AucBootstrap, confidence: float) -> list[dict[str, Any]]:
    """Paired AUC difference of every pair of models on the same rows.

    The model that comes later in the scores is `model_a`: with the lens first, "reclora - lens" is positive
    when personalization gained something.

    Returns:
        Records of model_a, model_b, auc_difference (a - b), low and high (the interval of this pair alone), p_value
        (two-sided, of this pair alone) and p_adjusted (corrected for the number of pairs, see `holm`).
    """
    earlier, later = np.array(list(combinations(range(len(auc.models)), 2)), dtype=int).reshape(-1, 2).T
    difference = auc.differences(later, earlier)
    low, high = difference.interval(confidence)
    p_value = difference.p_value()
    columns = {
        "model_a": [auc.models[index] for index in later],
        "model_b": [auc.models[index] for index in earlier],
        "auc_difference": difference.value.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "p_value": p_value.tolist(),
        "p_adjusted": holm(p_value).tolist(),
    }
    return [dict(zip(columns, record, strict=True)) for record in zip(*columns.values(), strict=True)]


def holm(p_values: Floats) -> Floats:
    """P-values corrected for their number, so that one false alarm among all of them is as rare as each one's level.

    Holm, "A simple sequentially rejective multiple test procedure" (Scandinavian Journal of Statistics, 1979).

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p_values)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return adjusted.clip(max=1)


def _draw_users(users: int, samples: int, per_chunk: int, seed: int) -> Iterator[Floats]:
    """How often each draw holds each user, shape (users, draws), at most `per_chunk` draws at a time."""
    random = np.random.default_rng(seed)
    for start in range(0, samples, per_chunk):
        draws = min(per_chunk, samples - start)
        drawn = random.integers(users, size=(draws, users)) + users * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * users).reshape(draws, users)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def _require_users(users: Integers, labels: npt.NDArray[np.bool_]) -> None:
    likers, dislikers = (len(np.unique(users[chosen])) for chosen in (labels, ~labels))
    if min(likers, dislikers) < 2:
        raise ValueError(
            f"scores: the likes are of {likers} user(s) and the dislikes of {dislikers}; expected at least 2 of each, "
            "since intervals are made by drawing users. Score rows of more users: raise history.prompt_rows.test, or "
            "write null to take the whole test split."
        )
