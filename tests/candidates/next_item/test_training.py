"""Training of a retriever."""

from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from cycle_log import catalogue_scores, changed, cycle_log
from reclora_kedro.candidates.next_item import training
from reclora_kedro.candidates.next_item.reader import RetrieverReader
from reclora_kedro.candidates.next_item.training import _fit, fit_retriever
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.distributed.group import train_in_processes


def hits(retriever, log, k=3):
    likes = log.samples_in("test")
    scores = catalogue_scores(RetrieverReader(retriever, log), likes)
    own = np.take_along_axis(scores, likes["item_index"].to_numpy()[:, None].astype(int), axis=1)
    return ((scores > own).sum(axis=1) < k).mean()


def test_the_next_item_of_an_easy_log_is_found(fitted, log):
    retriever, training_log = fitted
    assert hits(retriever, log) > 0.8
    assert training_log[-1]["loss"] < training_log[0]["loss"]
    assert [record["epoch"] for record in training_log] == list(range(1, len(training_log) + 1))
    assert training_log[-1].keys() == {"epoch", "loss", "hit_rate", "ndcg", "seconds"}


@pytest.mark.parametrize(
    "changes",
    [{"full_softmax_items": 1}, {"item_text": False}, {"item_ids": False}],
    ids=["sampled softmax", "ids", "texts"],
)
def test_it_is_found_otherwise_too(log, config, changes):
    assert hits(fit_retriever(log, config.model_copy(update=changes))[0], log) > 0.8


@pytest.mark.parametrize("kind", ["global_time", "per_user_last_out"])
def test_validation_and_test_events_change_no_weight(kind, config):
    log, once = cycle_log(kind), config.model_copy(update={"max_epochs": 1})
    held_out = log.samples.filter(pl.col("split") != "train")["event"].to_numpy()
    items = log.sequences.item_index.copy()
    items[held_out] = items[held_out][::-1]
    weights, others = (fit_retriever(each, once)[0].state_dict() for each in (log, changed(log, item_index=items)))
    assert all(weights[name].equal(others[name]) for name in weights)


class InterruptingStore(CheckpointStore):
    """A store after whose first checkpoint the run ends."""

    def save(self, *arguments):
        super().save(*arguments)
        raise KeyboardInterrupt


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not(model, log, config, tmp_path):
    config = config.model_copy(update={"model": model, "max_epochs": 3, "patience": 2})
    expected, expected_log = fit_retriever(log, config)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit_retriever(log, config, checkpoints=InterruptingStore(tmp_path, "a training"))
    torch.manual_seed(99)  # whatever state the next session is in
    retriever, training_log = fit_retriever(log, config, checkpoints=CheckpointStore(tmp_path, "a training"))
    assert all(weights.equal(retriever.state_dict()[name]) for name, weights in expected.state_dict().items())
    assert [r | {"seconds": 0} for r in training_log] == [r | {"seconds": 0} for r in expected_log]
    assert [record["seconds"] for record in training_log] == sorted(record["seconds"] for record in training_log)


def test_the_best_epoch_is_kept_and_training_stops_without_a_better_one(log, config):
    stuck = config.model_copy(update={"learning_rate": 1e-12, "max_epochs": 30, "patience": 2})
    _, training_log = fit_retriever(log, stuck)
    best = max(training_log, key=lambda record: (record["hit_rate"], record["ndcg"]))
    assert len(training_log) == best["epoch"] + 2 < 30


def test_training_leaves_the_global_generator_alone(log, config):
    before = torch.get_rng_state()
    fit_retriever(log, config.model_copy(update={"max_epochs": 1}))
    assert torch.get_rng_state().equal(before)


def test_a_loss_that_is_no_number_is_refused(log, config, monkeypatch):
    monkeypatch.setattr(training, "full_cross_entropy", lambda states, *_: states.sum() * torch.nan)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1 of epoch 1: lower retriever.learning_rate"):
        fit_retriever(log, config)


def test_fewer_parts_than_workers_are_refused(log, config):
    engine = LOCAL.model_copy(update={"kind": "ray", "workers": 3})
    with pytest.raises(ValueError, match=r"retriever.batch_parts is 2, but engine.workers is 3"):
        fit_retriever(log, config, engine)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_two_processes_train_the_retriever_that_one_trains(log, config):
    """It takes up to 9 s: two processes train together."""
    config = config.model_copy(update={"max_epochs": 2, "full_softmax_items": 1, "batch_parts": 4})
    expected, expected_log = fit_retriever(log, config)
    retriever, training_log = train_in_processes(partial(_fit, log, config, None), 2, "The retriever's training")
    assert training_log[-1]["loss"] == pytest.approx(expected_log[-1]["loss"], rel=1e-4)
    scores, expected_scores = (
        catalogue_scores(RetrieverReader(each, log), log.samples) for each in (retriever, expected)
    )
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-2, atol=1e-2)
