"""Training, saving and scoring."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from sklearn.metrics import roc_auc_score

from reclora_kedro.lens import LENSES
from reclora_kedro.lens.base import dump_lens, load_lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.features import LensRows
from reclora_kedro.lens.training import fit_lens, rows_of, score_rows


def fit(data, config, **changes):
    fields = vars(data) | changes
    return fit_lens(config=config, **fields)


@pytest.fixture(scope="module", params=sorted(LENSES))
def fitted(request, data, config):
    return fit(data, config.model_copy(update={"model": request.param}))


@pytest.fixture
def rows(data, config) -> LensRows:
    return LensRows(
        data.samples, data.sequences, data.item_embeddings, config.recent_length, long_history=config.long_history
    )


def test_an_easy_log_is_learned(fitted, data, rows) -> None:
    test = data.samples.filter(pl.col("split") == "test")
    _, scores = score_rows(fitted[0], rows, test["row"].to_numpy())
    assert roc_auc_score(test["label"], scores) > 0.9


def test_training_log_has_one_row_an_epoch(fitted, data, config) -> None:
    _, log = fitted
    train_rows = (data.samples["split"] == "train").sum()
    assert log.schema == {
        "rows": pl.Int64,
        "train_loss": pl.Float64,
        "validation_loss": pl.Float64,
        "validation_auc": pl.Float64,
        "seconds": pl.Float64,
    }
    assert log["rows"].to_list() == [train_rows * epoch for epoch in range(1, log.height + 1)]
    assert log["seconds"].is_sorted()


def test_the_best_epoch_is_kept(fitted, data, rows) -> None:
    lens, log = fitted
    validation = data.samples.filter(pl.col("split") == "validation")
    _, scores = score_rows(lens, rows, validation["row"].to_numpy())
    assert roc_auc_score(validation["label"], scores) == pytest.approx(log["validation_auc"].max(), abs=1e-6)


def test_training_stops_when_validation_does_not_improve(data, config) -> None:
    _, log = fit(data, config.model_copy(update={"learning_rate": 1e-12, "max_epochs": 50, "patience": 2}))
    assert log.height < 50
    assert log.height == log["validation_auc"].arg_max() + 1 + 2


def test_a_trained_lens_is_frozen(fitted, rows) -> None:
    lens, _ = fitted
    assert not any(module.training for module in lens.modules())
    assert not any(parameter.requires_grad for parameter in lens.parameters())


def test_training_is_deterministic_and_leaves_the_global_generator_alone(data, config) -> None:
    config = config.model_copy(update={"max_epochs": 2})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = fit(data, config)[0].state_dict(), fit(data, config)[0].state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit(data, config.model_copy(update={"seed": 1}))[0].state_dict()
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_a_saved_lens_scores_identically(fitted, rows) -> None:
    lens, _ = fitted
    config, weights = dump_lens(lens)
    loaded = load_lens(json.loads(json.dumps(config)), load(save(weights)))
    chosen = np.arange(50)
    states, scores = score_rows(lens, rows, chosen)
    states_again, scores_again = score_rows(loaded, rows, chosen)
    assert torch.equal(scores, scores_again)
    assert all(torch.equal(states[kind], states_again[kind]) for kind in states)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_of_another_lens_are_refused(fitted) -> None:
    config, weights = dump_lens(fitted[0])
    with pytest.raises(RuntimeError, match=r"output\.weight"):
        load_lens(config, {name: weight for name, weight in weights.items() if name != "output.weight"})


def test_states_and_scores_follow_the_order_of_the_rows(fitted, rows) -> None:
    lens, _ = fitted
    chosen = np.array([40, 3, 77])
    states, scores = score_rows(lens, rows, chosen)
    assert scores.dtype == torch.float64
    assert torch.equal(torch.sigmoid(states.pop("logit").double()), scores)
    for kind, state in states.items():
        assert state.dtype == torch.float32
        assert state.shape == (3, lens.state_dim(kind))
    for place, row in enumerate(chosen):
        _, alone = score_rows(lens, rows, np.array([row]))
        assert alone.item() == pytest.approx(scores[place].item(), abs=1e-6)


def test_users_unseen_in_training_are_unknown_and_scored(data, config) -> None:
    samples = data.samples.with_columns(split=pl.when(pl.col("user_index") < 5).then(pl.lit("test")).otherwise("split"))
    lens, _ = fit(data, config, samples=samples)
    assert lens.user.id_codes[:5].tolist() == [0] * 5
    assert lens.user.id_codes[5:].tolist() == list(range(6, 31))
    unseen = samples.filter(pl.col("user_index") < 5)
    _, scores = score_rows(lens, rows_of(lens, samples, data.sequences, data.item_embeddings), unseen["row"].to_numpy())
    assert roc_auc_score(unseen["label"], scores) > 0.8


def test_item_embeddings_of_another_run_are_refused(data, config) -> None:
    with pytest.raises(ValueError, match=r"item_embeddings has 2 rows, but the lens knows 40 items: .*history,lens"):
        fit(data, config, item_embeddings=data.item_embeddings[:2])


def test_users_without_a_profile(data, config) -> None:
    lens, _ = fit(data, config.model_copy(update={"max_epochs": 1}), users=data.users.select("user_id"))
    assert lens.state_dim("user") == 8 + 3 * 8


@pytest.mark.parametrize(
    ("split", "kept", "found"), [("train", "label == 1", r"labels \[1\]"), ("validation", "label > 1", "0 rows")]
)
def test_a_split_of_one_class_is_refused(data, config, split, kept, found) -> None:
    samples = data.samples.sql(f"SELECT * FROM self WHERE split <> '{split}' OR {kept.replace('==', '=')}")
    with pytest.raises(ValueError, match=f"the {split} split has .*{found}.*check the label threshold"):
        fit(data, config, samples=samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dni"}, "'dni', which is unknown: choose one of deepfm, autoint, dcnv2"),
        ({"dropuot": 0.1}, "dropuot"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_wrong_settings_are_refused(config, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        LensConfig(**config.model_dump() | changes)
