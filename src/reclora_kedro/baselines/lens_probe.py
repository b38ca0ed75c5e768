"""A logistic regression with the few-shot rows and gate inputs of a personalized LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from reclora_kedro.baselines.base import score_table
from reclora_kedro.evaluation.styles import Style

if TYPE_CHECKING:
    from torch import Tensor

NOTE = (
    "a logistic regression on the lens states that gates read, without prompts, trained on the same small sample of "
    "the rows as the adapters"
)
LABEL = "logistic regression on the click model's states"
STYLE = Style("#B8A100", "hexagram", "dash")
INVERSE_PENALTY = 1e-4  # scikit-learn's C, chosen on validation rows of MovieLens-100K, see docs/lab/gates.md


def scores(
    learning_questions: pl.DataFrame,
    test_questions: pl.DataFrame,
    learning_states: dict[str, Tensor],
    test_states: dict[str, Tensor],
) -> pl.DataFrame:
    """Return the probabilities of a like of the test rows, learned from the few-shot rows; see `probe_scores`."""
    few_shot = (learning_questions["use"] == "few_shot").to_torch()
    labels = learning_questions.filter(use="few_shot")["label"].to_numpy()
    return score_table(test_questions, probe_scores(learning_states["target"][few_shot], labels, test_states["target"]))


def probe_scores(few_shot: Tensor, labels: np.ndarray, states: Tensor) -> np.ndarray:
    """Return probabilities of a like, (n,), by logistic regression on lens states `target`, (n, state_dim).

    It is trained on the few-shot rows' states, (f, state_dim), which are centred and divided by one scale as for gates;
    ValueError if their labels, shape (f,), are all the same.

    Examples:
        >>> import torch
        >>> probe_scores(torch.tensor([[-1.0], [1.0]]), np.array([0, 1]), torch.tensor([[-3.0], [0.0], [3.0]])).round(4)
        array([0.4999, 0.5   , 0.5001])
    """
    from sklearn.linear_model import LogisticRegression

    learned, scored = few_shot.double().numpy(), states.double().numpy()
    centre = learned.mean(axis=0)
    scale = (learned - centre).std() or 1.0
    probe = LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000)
    probe.fit((learned - centre) / scale, labels)
    return probe.predict_proba((scored - centre) / scale)[:, 1]
