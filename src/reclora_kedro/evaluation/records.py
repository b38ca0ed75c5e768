"""Records of results: a dictionary per row of a table, as the JSON entries of the catalog store them."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

Record = dict[str, Any]
Records = Sequence[Mapping[str, Any]]
"""Rows of a table, whose columns its maker describes."""


class Gauc(TypedDict):
    """AUC within users, see `grouped_auc`."""

    gauc: float | None
    gauc_low: float | None
    gauc_high: float | None
    gauc_users: int


class ModelMetrics(Gauc):
    """Metrics of a model on the rows that all models scored, see `compute_metrics`."""

    model: str
    rows: int
    positives: int
    users: int
    auc: float
    auc_low: float
    auc_high: float
    confidence: float
    log_loss: float
    accuracy: float
    split_auc: NotRequired[float | None]
    split_rows: NotRequired[int]
    constant_log_loss: NotRequired[float]
    constant_accuracy: NotRequired[float]


class AucComparison(TypedDict):
    """Difference of the AUCs of two models, see `compare_models`."""

    model_a: str
    model_b: str
    auc_difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float


class SegmentAuc(TypedDict):
    """AUC of a model on a segment of the rows, see `compute_segments`."""

    by: str
    segment: str
    rows: int
    positives: int
    users: int
    model: str
    auc: float | None


class Attribution(TypedDict):
    """Fall of a model's AUC as one of its inputs is taken from another row, see `attribute`."""

    model: str
    input: str
    rows: int
    auc: float
    permuted_auc: float
    fall: float
    low: float
    high: float
    confidence: float


class RankingMetrics(TypedDict):
    """Metrics of a method's lists at a cutoff, see `compute_ranking_metrics`; among_… are not declared."""

    model: str
    k: int
    users: int
    rows: int
    candidates: float
    confidence: float
    hit_rate: float
    hit_rate_low: float
    hit_rate_high: float
    ndcg: float
    ndcg_low: float
    ndcg_high: float
    mrr: float
    mrr_low: float
    mrr_high: float
    novelty: float
    novelty_low: float
    novelty_high: float
    user_hit_rate: float
    user_ndcg: float
    coverage: float
    baseline: str
    ndcg_difference: float | None
    ndcg_difference_low: float | None
    ndcg_difference_high: float | None
    p_value: float | None
    p_adjusted: float | None
