"""Boosted trees of the numbers that a lens reads: what these few say of a row, without ids."""

import numpy as np
import polars as pl
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import LensLoader, known_statistics
from reclora_kedro.lens.training import SCORING_BATCH_SIZE
from reclora_kedro.rivals.base import score_table

NOTE = (
    "boosted trees of counts and rates of earlier events and, where the lens reads texts, of how alike those of the "
    "target and the history are, without ids, trained on all training rows"
)
STYLE = Style("#E69F00", "x", "longdashdot")
SETTINGS = {
    "learning_rate": 0.05,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 50,
    "l2_regularization": 10.0,
    "max_iter": 1_000,
    "early_stopping": True,
    "n_iter_no_change": 20,
}
"""Chosen on validation rows of MovieLens-100K and MovieTweetings 100K, where they matter by at most 0.001 AUC."""


def scores(log: InteractionLog, test_questions: pl.DataFrame, lens: Lens) -> pl.DataFrame:
    """Probabilities of a like from trees that learn from all training samples; validation samples tell when to stop.

    Of the lens, they read how much its statistics know of the log, its `Lens.text_similarities`, and the seed.
    """
    labels = log.samples["label"].to_numpy()
    train, validation = log.rows_in("train"), log.rows_in("validation")
    parts = (log.samples[train], log.samples[validation], test_questions)
    inputs, unseen, scored = (_numbers(log, part, lens) for part in parts)
    trees = HistGradientBoostingClassifier(random_state=lens.config.seed, **SETTINGS)
    trees.fit(inputs, labels[train], X_val=unseen, y_val=labels[validation])
    return score_table(test_questions, trees.predict_proba(scored)[:, 1])


@torch.inference_mode()
def _numbers(log: InteractionLog, samples: pl.DataFrame, lens: Lens) -> np.ndarray:
    """Rating statistics of samples and, of a lens with texts, their similarities: (n, 11 or more)."""
    statistics = known_statistics(log, lens).compute(samples).to_numpy()
    if not lens.config.item_text:
        return statistics
    batches = LensLoader(log, lens).batches(samples, SCORING_BATCH_SIZE)
    similarities = [lens.text_similarities(batch).numpy() for _, batch in batches]
    return np.hstack([statistics, np.concatenate(similarities)])
