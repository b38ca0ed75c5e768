"""Cross-fitted lens states: what each few-shot row gets from lenses that did not learn from it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from reclora_kedro.histories.questions import questions
from reclora_kedro.lens import crossfit
from reclora_kedro.lens.crossfit import FewShotConfig, align_states, cross_fit, learning_states
from reclora_kedro.lens.states import lens_states
from reclora_kedro.lens.training import fit_lens, refit_lens

ROWS = np.arange(5, 65, 3)
EPOCHS, FOLDS = 2, 3


NOTHING = np.array([], dtype=np.int64)


@pytest.fixture(scope="module")
def trained(log, config):
    return fit_lens(log, config.model_copy(update={"max_epochs": 4}))


@pytest.fixture(scope="module")
def lens(trained):
    return trained[0]


@pytest.fixture(scope="module")
def few_shot(log):
    return log.samples[ROWS]


def flip(log, row: int):
    label = pl.when(pl.col("row") == row).then(1 - pl.col("label")).otherwise("label")
    return replace(log, samples=log.samples.with_columns(label=label))


def auc(log, rows: np.ndarray, logits: torch.Tensor) -> float:
    return roc_auc_score(log.samples["label"].to_numpy()[rows], logits)


def test_a_lens_refitted_on_all_rows_is_the_lens(trained, log) -> None:
    lens, training_log = trained
    again = refit_lens(lens, log, NOTHING, training_log["validation_auc"].arg_max() + 1)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in lens.state_dict().items())
    assert not again.training
    fewer = refit_lens(lens, log, ROWS, 1)
    assert not torch.equal(fewer.output.weight, refit_lens(lens, log, NOTHING, 1).output.weight)


def test_users_of_left_out_rows_alone_are_unknown_to_the_refitted_lens(lens, log) -> None:
    left_out = log.samples.filter((pl.col("user_index") == 3) & (pl.col("split") == "train"))["row"].to_numpy()
    other = refit_lens(lens, log, left_out, 1)
    assert lens.user.id_codes[3] != 0
    assert other.user.id_codes[3] == 0
    assert torch.equal(other.user.id_codes[4:], lens.user.id_codes[4:])


def test_the_own_label_of_a_row_does_not_move_its_state(lens, log, few_shot) -> None:
    before, _ = cross_fit(lens, log, few_shot, EPOCHS, FOLDS)
    for place in (0, 7):
        after, _ = cross_fit(lens, flip(log, ROWS[place]), few_shot, EPOCHS, FOLDS)
        changed = (before["logit"] != after["logit"]).numpy()
        assert not changed[place]
        assert changed.sum() >= len(ROWS) - 1 - len(ROWS) // FOLDS  # rows of the other folds
        for kind in lens.state_kinds:
            assert torch.equal(before[kind][place], after[kind][place])


def test_states_have_the_shapes_of_the_lens_and_every_fold_is_reported(lens, log, few_shot) -> None:
    states, records = cross_fit(lens, log, few_shot, EPOCHS, FOLDS)
    assert states.keys() == {*lens.state_kinds, *lens.field_kinds, "logit"}
    for kind in lens.state_kinds:
        assert states[kind].shape == (len(ROWS), lens.state_dim(kind))
        assert states[kind].dtype == torch.float32
        assert all(record[f"{kind}_r2"] <= 1 for record in records)
    assert [record["fold"] for record in records] == ["1", "2", "3"]
    assert sum(record["rows"] for record in records) == len(ROWS)


def test_a_fold_whose_lens_is_the_lens_itself_changes_nothing(lens, log, few_shot, monkeypatch) -> None:
    monkeypatch.setattr(crossfit, "refit_lens", lambda *arguments: lens)
    # A lens may have learned from other negatives than the few-shot rows ask about.
    few_shot = few_shot.with_columns(pl.col("item_index").reverse())
    states, records = cross_fit(lens, log, few_shot, EPOCHS, FOLDS)
    in_sample = lens_states(lens, log, few_shot)
    for kind, state in states.items():
        # A lens's states differ in the last bits with the batch that a row is computed in.
        torch.testing.assert_close(state, in_sample[kind], rtol=1e-5, atol=1e-6)
    assert all(record[f"{kind}_r2"] == pytest.approx(1) for record in records for kind in lens.state_kinds)


def test_overconfidence_on_random_labels_goes(log, config) -> None:
    random = np.random.default_rng(1)
    labels = pl.Series(random.integers(2, size=log.samples.height), dtype=pl.Int8)
    log = replace(log, samples=log.samples.with_columns(label=labels))
    plain = config.model_copy(update={"dropout": 0.0, "user_id_dropout": 0.0, "item_id_dropout": 0.0, "max_epochs": 1})
    first, _ = fit_lens(log, plain)
    lens = refit_lens(first, log, NOTHING, 10)
    rows = log.rows_in("train")
    in_sample = lens_states(lens, log, log.samples[rows])
    fitted, _ = cross_fit(lens, log, log.samples[rows], 10, 2)
    assert auc(log, rows, in_sample["logit"]) > 0.75
    assert auc(log, rows, fitted["logit"]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("dim", [1, 6])
def test_a_linear_map_between_lenses_is_found(dim) -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(200, dim, generator=generator)
    mixing, shift = torch.randn(dim, dim, generator=generator), torch.randn(dim, generator=generator)
    states = torch.randn(9, dim, generator=generator)
    mapped, fit = align_states(states, source, source @ mixing + shift)
    torch.testing.assert_close(mapped, states @ mixing + shift, rtol=1e-3, atol=1e-3)
    assert fit > 0.999


def test_states_that_have_nothing_to_do_with_each_other_fit_badly() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(200, 4, generator=generator) for _ in range(2))
    _, fit = align_states(source, source, target)
    assert fit < 0.2


def test_units_that_are_always_zero_stay_zero() -> None:
    source = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    source[:, 1] = 0
    mapped, _ = align_states(source, source, source)
    assert torch.equal(mapped, source)


def test_gates_learn_from_the_lenss_own_states_or_from_cross_fitted_ones(trained, log) -> None:
    lens, training_log = trained
    rows, validation = ROWS[::-1].copy(), log.rows_in("validation")[:9]
    asked = pl.concat(
        [questions(log.samples[part], use) for part, use in ((validation, "validation"), (rows, "few_shot"))]
    )
    own = lens_states(lens, log, asked)
    (in_sample, short), (fitted, report) = (
        learning_states(lens, log, asked, training_log, FewShotConfig(lens_states=kind, folds=FOLDS))
        for kind in ("in_sample", "cross_fitted")
    )
    assert in_sample.keys() == fitted.keys() == own.keys()
    assert all(torch.equal(state, in_sample[kind]) for kind, state in own.items())
    assert all(torch.equal(state[:9], fitted[kind][:9]) for kind, state in own.items())
    assert fitted["row"].tolist() == [*validation, *rows]
    assert not (own["logit"][9:] == fitted["logit"][9:]).any()
    best_epoch = training_log["validation_auc"].arg_max() + 1
    expected, folds = cross_fit(lens, log, log.samples[rows], best_epoch, FOLDS)
    assert all(torch.equal(state, fitted[kind][9:]) for kind, state in expected.items())
    assert report[1:] == folds
    assert [record["fold"] for record in report] == ["all", "1", "2", "3"]
    assert short == [report[0] | {"cross_fitted_auc": None}]
    assert report[0]["rows"] == len(rows)
    assert report[0]["validation_auc"] == training_log["validation_auc"].max()
    assert report[0]["cross_fitted_auc"] == auc(log, rows, fitted["logit"][9:])
    assert report[0]["in_sample_auc"] == auc(log, rows, own["logit"][9:])


def test_more_folds_than_rows_are_refused(lens, log, few_shot) -> None:
    with pytest.raises(ValueError, match=r"few_shot\.folds is 9, but there are 4 few-shot rows: lower it"):
        cross_fit(lens, log, few_shot[:4], EPOCHS, 9)


@pytest.mark.parametrize("changes", [{"lens_states": "held_out"}, {"folds": 1}, {"fold": 5}])
def test_wrong_settings_are_refused(changes) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        FewShotConfig(**{"lens_states": "in_sample", "folds": 5} | changes)
