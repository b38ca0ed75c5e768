"""AUC with its uncertainty: DeLong's intervals and paired tests.

DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves" (Biometrics, 1988), in the mid-rank form of Sun & Xu, "Fast implementation of DeLong's
algorithm" (IEEE Signal Processing Letters, 2014): O(n log n) instead of a comparison of every like with every
dislike.
"""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from reclora_kedro.evaluation.scores import PairedScores

Floats = npt.NDArray[np.float64]


class Placements(NamedTuple):
    """Where each row's score stands among the rows of the other class, in [0, 1]; ties count one half.

    Attributes:
        positives: share of the dislikes that each like outscores (V10 of DeLong), shape (..., likes).
        negatives: share of the likes that outscore each dislike (V01 of DeLong), shape (..., dislikes).
    """

    positives: Floats
    negatives: Floats


class Estimate(NamedTuple):
    """AUCs, or differences of AUCs, with their standard errors; both of the same shape."""

    value: Floats
    standard_error: Floats

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Lower and upper end of the normal interval at this level, in (0, 1)."""
        half_width = norm.ppf((1 + confidence) / 2) * self.standard_error
        return self.value - half_width, self.value + half_width

    def p_value(self) -> Floats:
        """Two-sided p-value of the hypothesis that the value is zero; 1 where it is exactly zero."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0: two models that rank alike
            return np.where(self.value == 0, 1.0, 2 * norm.sf(np.abs(self.value) / self.standard_error))


def placements(labels: npt.NDArray[np.bool_], scores: Floats) -> Placements:
    """Placement values of every row from mid-ranks (Sun & Xu).

    Args:
        labels: True for a like, shape (rows,).
        scores: one line per model, shape (models, rows).

    Examples:
        >>> placements(np.array([True, True, False]), np.array([[0.9, 0.5, 0.5]]))
        Placements(positives=array([[1. , 0.5]]), negatives=array([[0.75]]))
    """
    ranks = rankdata(scores, axis=1)
    likes, dislikes = int(labels.sum()), int((~labels).sum())
    outscored = ranks[:, labels] - rankdata(scores[:, labels], axis=1)
    likes_below = ranks[:, ~labels] - rankdata(scores[:, ~labels], axis=1)
    return Placements(outscored / dislikes, 1 - likes_below / likes)


def delong_estimate(values: Placements) -> Estimate:
    """Mean of the placement values with DeLong's standard error.

    Placements of one model give its AUC; the difference of two models' placements, row by row, gives the
    difference of their AUCs, with the covariance of the two accounted for.

    Args:
        values: placements or differences of placements, at least two rows of each class.
    """
    variance = sum(part.var(axis=-1, ddof=1) / part.shape[-1] for part in values)
    return Estimate(values.positives.mean(axis=-1), np.sqrt(variance))


def compare_models(paired: PairedScores, confidence: float) -> list[dict[str, Any]]:
    """Paired AUC difference of every pair of models on the same rows.

    The model that comes later in the scores is `model_a`: with the lens first, "reclora - lens" is positive
    when personalization gained something. The p-values are two-sided and not adjusted for the number of pairs.

    Returns:
        Records of model_a, model_b, auc_difference (a - b), low, high, p_value.
    """
    values = placements(paired.labels, paired.scores)
    earlier, later = np.array(list(combinations(range(len(paired.models)), 2)), dtype=int).reshape(-1, 2).T
    difference = delong_estimate(Placements(*(part[later] - part[earlier] for part in values)))
    low, high = difference.interval(confidence)
    columns = {
        "model_a": [paired.models[index] for index in later],
        "model_b": [paired.models[index] for index in earlier],
        "auc_difference": difference.value.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "p_value": difference.p_value().tolist(),
    }
    return [dict(zip(columns, record, strict=True)) for record in zip(*columns.values(), strict=True)]
