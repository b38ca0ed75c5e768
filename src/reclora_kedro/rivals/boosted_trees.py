"""Boosted trees of the rating statistics: what a few numbers per row say, without ids, histories or texts."""

import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from reclora_kedro.evaluation.styles import Style
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import known_statistics
from reclora_kedro.rivals.base import score_table

NOTE = "boosted trees of the rating statistics alone, without ids, histories or texts, trained on all training rows"
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

    Of the lens, they read how much its statistics know of the log, and the seed.
    """
    statistics, labels = known_statistics(log, lens), log.samples["label"].to_numpy()
    train, validation = log.rows_in("train"), log.rows_in("validation")
    parts = (log.samples[train], log.samples[validation], test_questions)
    inputs, unseen, scored = (statistics.of(part).to_numpy() for part in parts)
    trees = HistGradientBoostingClassifier(random_state=lens.config.seed, **SETTINGS)
    trees.fit(inputs, labels[train], X_val=unseen, y_val=labels[validation])
    return score_table(test_questions, trees.predict_proba(scored)[:, 1])
