"""Boosted trees on the numeric inputs of a lens, without ids."""

import numpy as np
import polars as pl
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from reclora_kedro.baselines.base import score_table
from reclora_kedro.devices import seeded
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import SCORING_BATCH_SIZE, LensLoader, known_statistics

NOTE = (
    "boosted trees of counts and rates of earlier events and, where the lens reads them, of how alike the target and "
    "the history are by texts and by who liked them, without ids, trained on all training rows"
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
    """Return the probabilities of a like from trees trained on all training samples.

    Validation samples stop the training. The trees use the lens's statistics settings, its `Lens.cosines`, and its
    seed; in training, co-occurrences of an item are hidden at the rate of its ids, as for the lens.
    """
    labels = log.samples["label"].to_numpy()
    train, validation = log.rows_in("train"), log.rows_in("validation")
    with seeded(lens.config.seed, torch.device("cpu")):
        inputs = _numbers(log, log.samples[train], lens.train())
    unseen, scored = (_numbers(log, part, lens.eval()) for part in (log.samples[validation], test_questions))
    trees = HistGradientBoostingClassifier(random_state=lens.config.seed, **SETTINGS)
    trees.fit(inputs, labels[train], X_val=unseen, y_val=labels[validation])
    return score_table(test_questions, trees.predict_proba(scored)[:, 1])


@torch.inference_mode()
def _numbers(log: InteractionLog, samples: pl.DataFrame, lens: Lens) -> np.ndarray:
    """Return rating statistics of samples and, of a lens that reads them, cosines: (n, 11 or more)."""
    statistics = known_statistics(log, lens).compute(samples).to_numpy()
    if not lens.similarities.output_dim:
        return statistics
    cosines = []
    for _, batch in LensLoader(log, lens).batches(samples, SCORING_BATCH_SIZE):
        lens.hide_items()
        cosines.append(lens.cosines(batch).numpy())
    return np.hstack([statistics, np.concatenate(cosines)])
