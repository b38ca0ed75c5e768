"""Ranking metrics of a lens on the whole test split, of which the LLM scores a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import grouped_auc, row_means
from reclora_kedro.evaluation.records import ModelMetrics
from reclora_kedro.evaluation.significance import auc_over_users
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import recent_events, unit_vectors

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens

ROWS_AT_ONCE = 4096  # rows whose histories' vectors are in memory at once


def measure_lens(lens: Lens, log: InteractionLog, bootstrap: Bootstrap) -> list[ModelMetrics]:
    """Measure a frozen lens on all test samples and, if it reads item embeddings, their similarity alone.

    Means over rows have no intervals. ``similarity``, see `similarity_to_recent_items`, has no means over rows such as
    log_loss, as it is no probability.
    """
    from reclora_kedro.lens.states import LensReader, lens_scores

    samples = log.samples_in("test")
    labels = samples["label"].to_numpy() == 1
    scores = lens_scores({"logit": LensReader(lens, log).logits(samples)})
    measured = _ranking_metrics(log, samples, scores, bootstrap)
    records = [
        {"model": "lens"}
        | measured
        | row_means(labels, scores)
        | {"weights": sum(weight.numel() for weight in lens.parameters())}
    ]
    if lens.config.item_text:
        similarity = similarity_to_recent_items(log, samples, lens.config.recent_length)
        records.append({"model": "similarity"} | _ranking_metrics(log, samples, similarity, bootstrap))
    return cast(list[ModelMetrics], records)  # with the metrics of installed packages


def similarity_to_recent_items(log: InteractionLog, samples: pl.DataFrame, events: int) -> np.ndarray:
    """Return the mean cosine of each item with the user's last items, 0 without any: float64, (n,)."""
    assert log.item_embeddings is not None
    directions = unit_vectors(log.item_embeddings)
    similarity = np.empty(samples.height)
    for first in range(0, samples.height, ROWS_AT_ONCE):
        part = samples[first : first + ROWS_AT_ONCE]
        history = recent_events(part, log.sequences, events)
        is_event = history >= 0
        past = directions[log.sequences.item_index[np.where(is_event, history, 0)]]
        cosines = np.einsum("nkd,nd->nk", past, directions[part["item_index"].to_numpy()])
        mean = np.where(is_event, cosines, 0).sum(axis=1) / np.maximum(is_event.sum(axis=1), 1)
        similarity[first : first + part.height] = mean
    return similarity


def _ranking_metrics(
    log: InteractionLog, samples: pl.DataFrame, scores: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    users, labels = samples["user_index"].to_numpy(), samples["label"].to_numpy() == 1
    trained = np.zeros(log.items.height, dtype=bool)
    trained[log.sequences.item_index[log.samples_in("train", "event")["event"].drop_nulls().to_numpy()]] = True
    cold = ~trained[samples["item_index"].to_numpy()]
    [gauc] = grouped_auc(users, labels, scores[None], bootstrap)
    auc = auc_over_users(users, labels, scores)
    low, high = (end.clip(0, 1) for end in auc.interval(bootstrap.confidence))
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "users": len(np.unique(users)),
        "auc": float(auc.value),
        "auc_low": None if np.isnan(low) else float(low),
        "auc_high": None if np.isnan(high) else float(high),
        "auc_cold": float(roc_auc_score(labels[cold], scores[cold])) if len(np.unique(labels[cold])) == 2 else None,
        "confidence": bootstrap.confidence,
        **gauc,
    }
