"""Cross-fitted lens states: what each few-shot row gets from lenses that did not learn from it."""

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from reclora_kedro.lens import crossfit
from reclora_kedro.lens.crossfit import FewShotConfig, align_states, cross_fit, prompt_row_states
from reclora_kedro.lens.training import fit_lens, refit_lens, rows_of, score_rows

FEW_SHOT = np.arange(5, 65, 3)
EPOCHS, FOLDS = 2, 3


@pytest.fixture(scope="module")
def fitted(data, config):
    lens, log = fit_lens(config=config.model_copy(update={"max_epochs": 4}), **vars(data))
    return lens, rows_of(lens, data.samples, data.sequences, data.item_embeddings), log


def flip(samples: pl.DataFrame, row: int) -> pl.DataFrame:
    return samples.with_columns(label=pl.when(pl.col("row") == row).then(1 - pl.col("label")).otherwise("label"))


def auc(samples: pl.DataFrame, chosen: np.ndarray, logits: torch.Tensor) -> float:
    return roc_auc_score(samples["label"].to_numpy()[chosen], logits)


def test_a_lens_refitted_on_all_rows_is_the_lens(fitted, data) -> None:
    lens, rows, log = fitted
    nothing = np.array([], dtype=np.int64)
    again = refit_lens(lens, rows, data.samples, nothing, log["validation_auc"].arg_max() + 1)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in lens.state_dict().items())
    assert not again.training
    fewer = refit_lens(lens, rows, data.samples, FEW_SHOT, 1)
    assert not torch.equal(fewer.output.weight, refit_lens(lens, rows, data.samples, nothing, 1).output.weight)


def test_users_of_left_out_rows_alone_are_unknown_to_the_refitted_lens(fitted, data) -> None:
    lens, rows, _ = fitted
    left_out = data.samples.filter((pl.col("user_index") == 3) & (pl.col("split") == "train"))["row"].to_numpy()
    other = refit_lens(lens, rows, data.samples, left_out, 1)
    assert lens.user.id_codes[3] != 0
    assert other.user.id_codes[3] == 0
    assert torch.equal(other.user.id_codes[4:], lens.user.id_codes[4:])


def test_the_own_label_of_a_row_does_not_move_its_state(fitted, data) -> None:
    lens, rows, _ = fitted
    before, _ = cross_fit(lens, rows, data.samples, FEW_SHOT, EPOCHS, FOLDS)
    for place in (0, 7):
        after, _ = cross_fit(lens, rows, flip(data.samples, FEW_SHOT[place]), FEW_SHOT, EPOCHS, FOLDS)
        changed = (before["logit"] != after["logit"]).numpy()
        assert not changed[place]
        assert changed.sum() >= len(FEW_SHOT) - 1 - len(FEW_SHOT) // FOLDS  # rows of the other folds
        for kind in lens.state_kinds:
            assert torch.equal(before[kind][place], after[kind][place])


def test_states_have_the_shapes_of_the_lens_and_every_fold_is_reported(fitted, data) -> None:
    lens, rows, _ = fitted
    states, records = cross_fit(lens, rows, data.samples, FEW_SHOT, EPOCHS, FOLDS)
    assert states.keys() == {*lens.state_kinds, "logit"}
    for kind in lens.state_kinds:
        assert states[kind].shape == (len(FEW_SHOT), lens.state_dim(kind))
        assert states[kind].dtype == torch.float32
        assert all(record[f"{kind}_r2"] <= 1 for record in records)
    assert [record["fold"] for record in records] == ["1", "2", "3"]
    assert sum(record["rows"] for record in records) == len(FEW_SHOT)


def test_a_fold_whose_lens_is_the_lens_itself_changes_nothing(fitted, data, monkeypatch) -> None:
    lens, rows, _ = fitted
    monkeypatch.setattr(crossfit, "refit_lens", lambda *arguments: lens)
    states, records = cross_fit(lens, rows, data.samples, FEW_SHOT, EPOCHS, FOLDS)
    in_sample, _ = score_rows(lens, rows, FEW_SHOT)
    for kind, state in in_sample.items():
        # A lens's states differ in the last bits with the batch that a row is computed in.
        torch.testing.assert_close(states[kind], state, rtol=1e-5, atol=1e-6)
    assert all(record[f"{kind}_r2"] == pytest.approx(1) for record in records for kind in lens.state_kinds)


def test_overconfidence_on_random_labels_goes(data, config) -> None:
    random = np.random.default_rng(1)
    samples = data.samples.with_columns(label=pl.Series(random.integers(2, size=data.samples.height), dtype=pl.Int8))
    plain = config.model_copy(update={"dropout": 0.0, "user_id_dropout": 0.0, "item_id_dropout": 0.0, "max_epochs": 1})
    first, _ = fit_lens(config=plain, **vars(data) | {"samples": samples})
    rows = rows_of(first, samples, data.sequences, data.item_embeddings)
    lens = refit_lens(first, rows, samples, np.array([], dtype=np.int64), 10)
    few_shot = samples.filter(pl.col("split") == "train")["row"].to_numpy()
    in_sample, _ = score_rows(lens, rows, few_shot)
    fitted, _ = cross_fit(lens, rows, samples, few_shot, 10, 10)
    assert auc(samples, few_shot, in_sample["logit"]) > 0.75
    assert auc(samples, few_shot, fitted["logit"]) == pytest.approx(0.5, abs=0.1)


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


def test_other_rows_keep_the_states_of_the_lens(fitted, data) -> None:
    lens, rows, log = fitted
    prompt_rows = pl.DataFrame(
        {"row": [*FEW_SHOT, 400, 500], "use": ["few_shot"] * len(FEW_SHOT) + ["validation", "test"]},
        schema={"row": pl.UInt32, "use": pl.String},
    )[::-1]
    few_shot = (prompt_rows["use"] == "few_shot").to_numpy()
    results = {
        kind: prompt_row_states(
            lens, rows, data.samples, prompt_rows, log, FewShotConfig(lens_states=kind, folds=FOLDS)
        )
        for kind in ("in_sample", "cross_fitted")
    }
    (in_sample, short), (fitted_states, report) = results.values()
    for kind, state in in_sample.items():
        assert torch.equal(state[~few_shot], fitted_states[kind][~few_shot])
    assert in_sample["row"].tolist() == fitted_states["row"].tolist() == prompt_rows["row"].to_list()
    assert not (in_sample["logit"] == fitted_states["logit"])[few_shot].any()
    assert [record["fold"] for record in report] == ["all", "1", "2", "3"]
    assert len(short) == 1
    assert short[0] == report[0] | {"cross_fitted_auc": None}
    assert report[0]["validation_auc"] == log["validation_auc"].max()
    rows_in_order = prompt_rows["row"].to_numpy()[few_shot]
    assert report[0]["cross_fitted_auc"] == auc(data.samples, rows_in_order, fitted_states["logit"][few_shot])
    assert report[0]["in_sample_auc"] == auc(data.samples, rows_in_order, in_sample["logit"][few_shot])


def test_more_folds_than_rows_are_refused(fitted, data) -> None:
    lens, rows, _ = fitted
    with pytest.raises(ValueError, match=r"few_shot\.folds is 9, but there are 4 few-shot rows: lower it"):
        cross_fit(lens, rows, data.samples, FEW_SHOT[:4], EPOCHS, 9)


@pytest.mark.parametrize("changes", [{"lens_states": "held_out"}, {"folds": 1}, {"fold": 5}])
def test_wrong_settings_are_refused(changes) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        FewShotConfig(**{"lens_states": "in_sample", "folds": 5} | changes)
