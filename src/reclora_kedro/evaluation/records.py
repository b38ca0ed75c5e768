"""Rows of tables of results, as the JSON entries of the catalog store them, by kind.

They stand below all packages that make or read them. A metric of an installed package adds columns of its name, see
`metric.columns_of`, to those that are declared here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

Record = dict[str, Any]
Records = Sequence[Mapping[str, Any]]  # rows of any table


class ModelMetrics(TypedDict):
    """Metrics of a model on test rows; `…_low` and `…_high` are the ends of intervals over users."""

    model: str
    rows: int
    positives: int  # likes among the rows
    users: int
    auc: float
    auc_low: float | None  # None for one user, as the other end
    auc_high: float | None
    confidence: float  # level of the intervals
    gauc: float | None  # mean AUC within users, see `grouped_auc`; None, as its ends, below `LEAST_USERS` users
    gauc_low: float | None
    gauc_high: float | None
    gauc_users: int  # users with both likes and dislikes
    auc_cold: NotRequired[float | None]  # of a lens, on items without a training event; None for one class
    weights: NotRequired[int]  # of a lens, trained ones
    split_auc: NotRequired[float | None]  # on the whole test split; None if the model scored a part alone
    split_rows: NotRequired[int]  # of the test split
    constant_log_loss: NotRequired[float]  # of a constant, see `with_constant`
    constant_accuracy: NotRequired[float]


class Comparison(TypedDict):
    """Difference in AUC of two models on the same rows."""

    model_a: str  # the later one in the scores
    model_b: str
    auc_difference: float  # a - b
    low: float  # end of the interval of this pair alone
    high: float
    p_value: float  # two-sided, of this pair alone
    p_adjusted: float  # for the number of pairs, see `holm`


class InputEffect(TypedDict):
    """AUC that a model loses if one of its inputs is taken from another row, on the rows that were permuted."""

    model: str
    input: str
    rows: int
    auc: float  # with its own inputs
    permuted_auc: float
    fall: float  # auc - permuted_auc
    low: float  # end of the interval of the fall; one that contains 0 shows no significant effect
    high: float
    within: float | None  # fall of the GAUC, the AUC within users; None, as its ends, below `LEAST_USERS` users
    within_low: float | None
    within_high: float | None
    confidence: float


class SegmentAuc(TypedDict):
    """AUC of a model on a segment of the test rows."""

    by: str  # what the rows are segmented by
    segment: str
    rows: int
    positives: int  # likes among the rows
    users: int
    model: str
    auc: float | None  # None for one class or too few rows


class NegativesCheck(TypedDict):
    """How well a number alone separates likes from drawn negatives."""

    number: str  # in words
    split: str
    rows: int
    auc: float  # of the number, or of its negative if that is higher
    warning: str | None  # a sentence where the AUC is too high
