"""What the lens reads of its inputs."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.scoring import permutation
from reclora_kedro.scoring.permutation import permuted_lens_scores

ROWS = np.array([40, 3, 77, 200])


def test_one_input_is_that_of_the_sample_before(fitted, log) -> None:
    lens, _ = fitted
    found = permuted_lens_scores(lens, log, log.samples[ROWS])
    assert found["input"].unique(maintain_order=True).to_list() == ["user", "item", "history", "rating statistics"]
    [(_, batch)] = LensLoader(log, lens).batches(log.samples[ROWS], 4)
    with torch.no_grad():
        expected = torch.sigmoid(lens(replace(batch, item=batch.item[[3, 0, 1, 2]])).double())
    items = found.filter(pl.col("input") == "item")
    assert items["row"].to_list() == ROWS.tolist()
    assert items["label"].to_list() == log.samples["label"].gather(ROWS).to_list()
    np.testing.assert_allclose(items["score"], expected, atol=1e-6)


def test_no_question_keeps_its_own_input_behind_whole_batches(fitted, log, monkeypatch) -> None:
    lens, _ = fitted
    monkeypatch.setattr(permutation, "SCORING_BATCH_SIZE", 3)
    found = permuted_lens_scores(lens, log, log.samples[ROWS], ["user"])["score"].to_numpy()
    assert (np.abs(found - lens_scores(lens_states(lens, log, log.samples[ROWS]))) > 1e-6).all()


def test_inputs_that_are_not_asked_for_are_not_permuted(fitted, log) -> None:
    lens, _ = fitted
    for inputs, found in (((), []), (("prompt",), []), (("prompt", "item"), ["item"])):
        assert permuted_lens_scores(lens, log, log.samples[ROWS], inputs)["input"].unique().to_list() == found


def test_a_lens_without_statistics_is_not_permuted_by_them(log, config) -> None:
    lens, _ = fit_lens(log, config.model_copy(update={"rating_statistics": False, "max_epochs": 1}))
    assert "rating statistics" not in permuted_lens_scores(lens, log, log.samples[ROWS])["input"].to_list()
