"""Training of a lens."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.distributed.group import train_in_processes
from reclora_kedro.history.rating_statistics import COLUMNS, RatingStatistics
from reclora_kedro.lens import LENS_MODELS, training
from reclora_kedro.lens.base import load_lens
from reclora_kedro.lens.features import LensLoader
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.lens.training import LensTraining, _fit, fit_lens


def auc_in(split, lens, log) -> float:
    rows = log.rows_in(split)
    return roc_auc_score(log.samples["label"].to_numpy()[rows], lens_scores(lens_states(lens, log, log.samples[rows])))


@pytest.mark.parametrize("model", LENS_MODELS.modules())
def test_an_easy_log_is_learned_without_statistics(log, config, model) -> None:
    lens, _ = fit_lens(log, config.model_copy(update={"model": model, "rating_statistics": False}))
    assert "rating_statistics" not in lens.state_dims
    assert auc_in("test", lens, log) > 0.9


def test_statistics_are_standardised_over_the_training_samples(fitted, log) -> None:
    lens, _ = fitted
    state = lens_states(lens, log, log.samples.filter(split="train"))["rating_statistics"]
    torch.testing.assert_close(state.mean(dim=0), torch.zeros(len(COLUMNS)), atol=1e-4, rtol=0)
    torch.testing.assert_close(state.std(dim=0, correction=0), torch.ones(len(COLUMNS)), atol=1e-3, rtol=0)


def test_similarities_are_standardised_over_the_training_samples(fitted, log) -> None:
    lens, _ = fitted
    batches = LensLoader(log, lens).batches(log.samples.filter(pl.col("split") == "train"), 64)
    numbers = lens.similarities.standardise(torch.cat([lens.cosines(batch) for _, batch in batches]))
    torch.testing.assert_close(numbers.mean(dim=0), torch.zeros(numbers.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(numbers.std(dim=0, correction=0), torch.ones(numbers.shape[1]), atol=1e-3, rtol=0)


def test_texts_are_the_directions_of_the_item_embeddings_and_no_weights(fitted, log) -> None:
    lens, _ = fitted
    expected = log.item_embeddings / np.linalg.norm(log.item_embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(lens.item.texts, expected, rtol=1e-5)
    assert "item.texts" not in dict(lens.named_parameters())


def test_an_item_unseen_in_training_is_scored_by_its_text(log, config) -> None:
    unseen = pl.col("item_index") < 10
    log = replace(log, samples=log.samples.with_columns(split=pl.when(unseen).then(pl.lit("none")).otherwise("split")))
    bare = replace(log, items=log.items.select("item_id", "title"))
    without, _ = fit_lens(bare, config.model_copy(update={"rating_statistics": False, "item_text": False}))
    lens, _ = fit_lens(bare, config.model_copy(update={"rating_statistics": False}))
    assert lens.item.id_codes[:10].tolist() == [0] * 10
    assert auc_in("none", without, bare) < 0.7
    assert auc_in("none", lens, bare) > 0.8


def test_later_events_change_no_score(fitted, log) -> None:
    lens, _ = fitted
    rows = log.rows_in("validation")
    until = int(log.samples["timestamp"].to_numpy()[rows].max())
    later = log.sequences.timestamp >= until
    items = np.where(later, log.sequences.item_index[::-1], log.sequences.item_index)
    changed = replace(log, sequences=replace(log.sequences, item_index=items))
    assert (items != log.sequences.item_index).any()
    scores, scores_again = (lens_scores(lens_states(lens, each, each.samples[rows])) for each in (log, changed))
    np.testing.assert_array_equal(scores, scores_again)


@pytest.mark.parametrize("delay", [100.0, "frozen"])
def test_a_delay_reaches_what_the_lens_reads_until_it_is_saved_and_loaded(log, config, delay, tmp_path) -> None:
    lens, _ = fit_lens(log, config.model_copy(update={"statistics_delay": delay, "max_epochs": 1}))
    lens.save(tmp_path)
    test = log.rows_in("test")
    until = int(log.samples.filter(pl.col("split") == "train")["timestamp"].to_numpy().max())
    statistics = RatingStatistics(log, until=until) if delay == "frozen" else RatingStatistics(log, delay)
    expected = lens.statistics.standardise(statistics.compute(log.samples[test]).to_torch())
    assert torch.equal(lens_states(load_lens(tmp_path), log, log.samples[test])["rating_statistics"], expected)


def test_the_training_log_has_one_row_per_epoch(fitted, log) -> None:
    _, training_log = fitted
    assert training_log.schema == {
        "rows": pl.Int64,
        "train_loss": pl.Float64,
        "validation_loss": pl.Float64,
        "validation_auc": pl.Float64,
        "seconds": pl.Float64,
    }
    train_rows = len(log.rows_in("train"))
    assert training_log["rows"].to_list() == [train_rows * epoch for epoch in range(1, training_log.height + 1)]
    assert training_log["seconds"].is_sorted()


def test_the_best_epoch_is_kept(fitted, log) -> None:
    lens, training_log = fitted
    assert auc_in("validation", lens, log) == pytest.approx(training_log["validation_auc"].max(), abs=1e-6)


def test_training_stops_when_validation_does_not_improve(log, config) -> None:
    stuck = config.model_copy(update={"learning_rate": 1e-12, "max_epochs": 50, "patience": 2})
    _, training_log = fit_lens(log, stuck)
    assert training_log.height < 50
    assert training_log.height == training_log["validation_auc"].arg_max() + 1 + 2


def test_epochs_of_a_long_pass_have_each_row_once_and_end_at_the_maximum(log, config, monkeypatch, caplog) -> None:
    seen, steps, learn, take_step = [], [], LensTraining.epoch, torch.optim.AdamW.step
    monkeypatch.setattr(training, "EPOCH_ROWS", 60)
    monkeypatch.setattr(LensTraining, "epoch", lambda self, rows, bar: seen.append(rows) or learn(self, rows, bar))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: steps.append(len(seen)) or take_step(self))
    rows = log.rows_in("train")
    config = config.model_copy(update={"max_epochs": 2, "patience": 99, "batch_size": 5, "batch_parts": 1})
    _, whole = fit_lens(log, config)
    assert [steps.count(epoch + 1) for epoch in range(len(seen))] == [-(-len(each) // 20) for each in seen]
    passes = np.split(np.concatenate(seen), 2)
    assert max(map(len, seen)) <= 60
    assert all((np.sort(each) == rows).all() for each in passes)
    assert whole["rows"].to_list() == np.cumsum([len(each) for each in seen]).tolist()
    seen.clear()
    _, bounded = fit_lens(log, config.model_copy(update={"max_rows": 100}))
    assert bounded.drop("seconds").equals(whole.drop("seconds")[:2])
    assert "With a higher `lens.max_rows` it may learn more" in caplog.text
    monkeypatch.setattr(training, "LEAST_GAIN", 1.0)
    _, flat = fit_lens(log, config.model_copy(update={"patience": 2}))
    assert flat.drop("seconds").equals(whole.drop("seconds")[:3])


def test_a_long_pass_takes_the_steps_of_gradients_that_are_made_anew(log, config, monkeypatch) -> None:
    config = config.model_copy(update={"max_epochs": 1, "batch_size": 5, "batch_parts": 2})
    monkeypatch.setattr(training, "EPOCH_ROWS", 60)
    kept, _ = fit_lens(log, config)
    assert kept.item.ids.sparse
    monkeypatch.setattr(LensTraining, "keep_gradients", lambda self: None)
    anew, _ = fit_lens(log, config)
    assert not anew.item.ids.sparse
    for name, weight in anew.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


def test_a_trained_lens_is_frozen(fitted) -> None:
    lens, _ = fitted
    assert not any(module.training for module in lens.modules())
    assert not any(parameter.requires_grad for parameter in lens.parameters())


def test_training_is_deterministic_and_leaves_the_global_generator_alone(log, config) -> None:
    config = config.model_copy(update={"max_epochs": 2})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = fit_lens(log, config)[0].state_dict(), fit_lens(log, config)[0].state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit_lens(log, config.model_copy(update={"seed": 1}))[0].state_dict()
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_users_unseen_in_training_are_unknown_and_scored(log, config) -> None:
    unseen = pl.col("user_index") < 5
    log = replace(log, samples=log.samples.with_columns(split=pl.when(unseen).then(pl.lit("none")).otherwise("split")))
    lens, _ = fit_lens(log, config)
    assert lens.user.id_codes[:5].tolist() == [0] * 5
    assert lens.user.id_codes[5:].tolist() == list(range(6, 31))
    assert auc_in("none", lens, log) > 0.8


def test_users_without_a_profile(log, config) -> None:
    bare = replace(log, users=log.users.select("user_id"))
    lens, _ = fit_lens(bare, config.model_copy(update={"max_epochs": 1}))
    assert lens.state_dims["user"] == 8 + 4 * 8


def where(condition):
    """A change of a log to those of its samples that fulfil a condition."""
    return lambda log: {"samples": log.samples.sql(f"SELECT * FROM self WHERE {condition}")}


REFUSED = {
    "no item embeddings": (
        lambda log: {"item_embeddings": None},
        {},
        {},
        "The log has no item vectors, which item_text needs",
    ),
    "likes alone train": (
        where("split <> 'train' OR label = 1"),
        {},
        {},
        r"The train split of the samples has (\d+) of \1 rows that are liked .* move `ingestion\.label_threshold`",
    ),
    "nothing validates": (
        where("split <> 'validation'"),
        {},
        {},
        r"The validation split of the samples has 0 of 0 rows that are liked .* move `ingestion\.label_threshold`",
    ),
    "fewer parts than workers": (
        lambda log: {},
        {},
        {"kind": "ray", "workers": 2, "rows_per_shard": 7},
        "lens.batch_parts is 1, but engine.workers is 2",
    ),
    "a lens that diverges": (
        lambda log: {},
        {"weight_decay": 5000.0},
        {},
        r"validation logit of the lens is nan among \d+: .* or lens\.weight_decay",
    ),
}
"""By what is wrong: changes of the log, of the settings and of the engine, and what the error says."""


@pytest.mark.parametrize(("changes", "settings", "engine", "message"), REFUSED.values(), ids=REFUSED)
def test_a_training_that_cannot_succeed_is_refused(log, config, changes, settings, engine, message) -> None:
    with pytest.raises((ValueError, FloatingPointError), match=message):
        fit_lens(replace(log, **changes(log)), config.model_copy(update=settings), LOCAL.model_copy(update=engine))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_three_processes_train_the_lens_that_one_trains(log, config):
    """It takes 6 s: three processes train together."""
    parts = config.model_copy(update={"batch_parts": 4, "max_epochs": 2})
    expected, expected_log = fit_lens(log, parts)
    lens, training_log = train_in_processes(partial(_fit, log, parts), 3, "The lens's training")
    assert training_log["validation_auc"].to_list() == pytest.approx(expected_log["validation_auc"], abs=1e-4)
    weights = lens.state_dict()
    for name, expected_weights in expected.state_dict().items():
        torch.testing.assert_close(weights[name], expected_weights, rtol=1e-3, atol=1e-4, msg=name)
