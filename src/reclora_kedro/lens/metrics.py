"""How well a lens ranks the whole test split, of which the LLM scores a sample."""

from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import grouped_auc
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader, lens_scores


def measure_lens(lens: Lens, log: InteractionLog, bootstrap: Bootstrap) -> dict[str, Any]:
    """What a frozen lens reaches on all samples of the test split.

    Returns:
        A record with the fields of `reclora_kedro.evaluation.metrics.compute_metrics` but for the interval of the AUC,
        which is made for the rows that all models score; auc_cold, the AUC on items without a training event, None
        where these have one class; and weights, the number of trained ones.
    """
    samples = log.samples[log.rows_in("test")]
    users, labels = samples["user_index"].to_numpy(), samples["label"].to_numpy() == 1
    scores = lens_scores({"logit": LensReader(lens, log).logits(samples)})
    trained = log.sequences.item_index[log.samples[log.rows_in("train")]["event"].drop_nulls().to_numpy()]
    cold = ~np.isin(samples["item_index"].to_numpy(), trained)
    [gauc] = grouped_auc(users, labels, scores[None], bootstrap)
    return {
        "model": "lens",
        "rows": len(labels),
        "positives": int(labels.sum()),
        "users": len(np.unique(users)),
        "auc": float(roc_auc_score(labels, scores)),
        "auc_cold": float(roc_auc_score(labels[cold], scores[cold])) if len(np.unique(labels[cold])) == 2 else None,
        "confidence": bootstrap.confidence,
        **gauc,
        "log_loss": float(log_loss(labels, scores)),
        "accuracy": float(np.mean((scores >= 0.5) == labels)),
        "weights": sum(weight.numel() for weight in lens.parameters()),
    }
