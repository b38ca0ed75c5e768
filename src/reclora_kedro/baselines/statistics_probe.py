"""A logistic regression of rating statistics on the LLM's few-shot rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from reclora_kedro.baselines.base import score_table
from reclora_kedro.evaluation.styles import Style
from reclora_kedro.history.log import InteractionLog

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens

NOTE = (
    "a logistic regression on rating statistics (counts and rates of earlier events), trained on the same small "
    "sample of the rows as the adapters"
)
LABEL = "logistic regression on rating statistics"
STYLE = Style("#8C564B", "pentagon", "dashdot")


def scores(learning_questions: pl.DataFrame, log: InteractionLog, lens: Lens) -> pl.DataFrame:
    """Return probabilities of a like of the whole test split, learned from few-shot rows by the lens's statistics."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from reclora_kedro.lens.features import statistics_of

    statistics, few_shot = statistics_of(lens)(log), learning_questions.filter(use="few_shot")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    probe.fit(statistics.compute(few_shot).to_numpy(), few_shot["label"].to_numpy())
    test = log.samples_in("test")
    return score_table(test, probe.predict_proba(statistics.compute(test).to_numpy())[:, 1])
