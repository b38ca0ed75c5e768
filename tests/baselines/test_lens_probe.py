"""The probe of the lens: what its scores depend on, and what a strong penalty makes of it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reclora_kedro.baselines.lens_probe import probe_scores
from reclora_kedro.lens.states import lens_states

LABELS = np.arange(60) % 2


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    """Of 60 rows to learn from, then 40 to score; likes are the larger ones of the first three units."""
    random = torch.Generator().manual_seed(0)
    states = torch.randn(100, 8, generator=random)
    states[:, :3] += 1.5 * (torch.arange(100) % 2).unsqueeze(1)
    return states


def test_scores_are_probabilities_of_a_like(states) -> None:
    scores = probe_scores(states[:60], LABELS, states[60:])
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    assert roc_auc_score(np.arange(40) % 2, scores) > 0.9


def test_neither_the_place_nor_the_scale_of_the_states_counts(states) -> None:
    scores = probe_scores(states[:60], LABELS, states[60:])
    moved = 5 * states + torch.arange(8)
    np.testing.assert_allclose(probe_scores(moved[:60], LABELS, moved[60:]), scores, rtol=1e-6)


def test_the_score_of_a_row_does_not_depend_on_the_other_rows(states) -> None:
    scores = probe_scores(states[:60], LABELS, states[60:])
    np.testing.assert_allclose(probe_scores(states[:60], LABELS, states[[77, 63]]), scores[[17, 3]], rtol=1e-12)


def test_under_its_penalty_it_ranks_along_the_difference_of_likes_and_dislikes(states) -> None:
    learned = states[:60].double()
    direction = learned[1::2].mean(dim=0) - learned[::2].mean(dim=0)
    scores = probe_scores(states[:60], LABELS, states[60:])
    logits = np.log(scores / (1 - scores))
    assert np.corrcoef(logits, states[60:].double() @ direction)[0, 1] > 0.999


@pytest.mark.parametrize("fitted", ["sim", "text_transformer"], indirect=True)
def test_it_ranks_as_the_lens_does_from_a_few_of_its_states(fitted, log) -> None:
    lens, _ = fitted
    labels = log.samples["label"].to_numpy()
    few_shot, test = log.rows_in("train")[::4], log.rows_in("test")
    learned, scored = (lens_states(lens, log, log.samples[rows]) for rows in (few_shot, test))
    scores = probe_scores(learned["target"], labels[few_shot], scored["target"])
    assert roc_auc_score(labels[test], scores) > roc_auc_score(labels[test], scored["logit"]) - 0.02
