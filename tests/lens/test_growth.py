"""A lens whose log has grown."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kedro_provenance.errors import MismatchError
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import levels_as_before, user_of_events
from reclora_kedro.history.splits import SplitConfig
from reclora_kedro.lens import LENS_MODELS, growth
from reclora_kedro.lens.config import ContinuationConfig, EntitySizes
from reclora_kedro.lens.features import fresh_lens
from reclora_kedro.lens.growth import continue_lens, grow_lens, rearrange_lens
from reclora_kedro.lens.layers import UNKNOWN_ID, EntityEmbedding
from reclora_kedro.lens.states import lens_states
from reclora_kedro.lens.training import LensTraining, fit_lens
from reference_log import reference_log

USERS, ITEMS, UNTIL = 20, 30, 400  # of the log before it grew
CONTINUATION = ContinuationConfig(replay=0.5, learning_rate=0.01, max_epochs=4).model_copy(update={"patience": 2})


@pytest.fixture(scope="module")
def logs(log) -> tuple[InteractionLog, InteractionLog]:
    """A log, and the one that it grew to: all that happened later, lower ratings and other fields among it."""
    events, index = log.sequences, user_of_events(log.sequences.offsets)
    later = events.timestamp > UNTIL
    interactions = pl.DataFrame(
        {
            "user_id": index,
            "item_id": events.item_index,
            "rating": events.rating - np.where(later & (events.rating == 1), 0.5, 0),
            "timestamp": events.timestamp,
            "label": events.label,
        }
    ).sort("timestamp")
    known = (pl.col("user_id") < USERS) & (pl.col("item_id") < ITEMS)
    split = {"kind": "global_time", "validation": 0.15}
    items = log.items.with_columns(genres=pl.when(item_id=39).then(pl.lit("Odd, New, Old")).otherwise("genres"))
    old = reference_log(
        interactions.filter(known & (pl.col("timestamp") <= UNTIL)),
        items[:ITEMS],
        log.users[:USERS],
        min_history=3,
        split=SplitConfig(train=0.7, **split),
    ).with_embeddings(log.item_embeddings[:ITEMS])
    grown = reference_log(
        interactions.filter(known | (pl.col("timestamp") > UNTIL)),
        items,
        log.users,
        min_history=3,
        split=SplitConfig(train=0.8, **split),
    ).with_embeddings(log.item_embeddings)
    levels = levels_as_before(grown.sequences.rating, old.sequences)
    return old, replace(grown, sequences=replace(grown.sequences, rating_level=levels))


@pytest.fixture(scope="module")
def trained(logs, config):
    return fit_lens(logs[0], config.model_copy(update={"max_epochs": 1, "learning_rate": 1e-3}))[0]


def have_equal_weights(one, two) -> bool:
    return all(torch.equal(weight, two[name]) for name, weight in one.items())


@pytest.mark.parametrize("model", LENS_MODELS.modules())
def test_a_grown_lens_scores_what_it_knew_to_the_last_bit(logs, config, model) -> None:
    old, grown = logs
    lens = fresh_lens(old, config.model_copy(update={"model": model}))[0].freeze()
    before = lens_states(lens, old, old.samples)
    after = lens_states(grow_lens(lens, grown), grown, grown.samples[: old.samples.height])
    assert grown.samples.height > old.samples.height
    assert before.keys() == after.keys()
    assert all(torch.equal(after[kind], state) for kind, state in before.items())


def test_new_ids_are_the_unknown_one_and_new_values_none(logs, trained) -> None:
    lens = grow_lens(trained, logs[1])
    assert lens.user.id_codes[USERS:].tolist() == [UNKNOWN_ID] * 10
    assert lens.item.id_codes[ITEMS:].tolist() == [UNKNOWN_ID] * 10
    assert lens.item.field_codes[37:].squeeze(1).tolist() == [[2, 0], [1, 3], [2, 0]]  # Odd; Even, Round; Odd, New, Old
    assert torch.equal(lens.item.texts[:ITEMS], trained.item.texts)
    assert torch.equal(lens.item(torch.tensor([39]))[:, :8], lens.item.ids.weight[None, UNKNOWN_ID])


def test_a_lens_learns_from_new_rows(logs, trained) -> None:
    _, log = logs
    grown = grow_lens(trained, log)
    weights = {name: weight.clone() for name, weight in grown.state_dict().items()}
    lens, training_log = continue_lens(grown, log, CONTINUATION)
    aucs = training_log["validation_auc"]
    assert training_log["rows"][0] == 0
    assert aucs.max() > aucs[0]
    assert lens.sizes.trained_until == log.samples.filter(split="train")["timestamp"].max()
    seen = set(log.samples.filter(split="train")["user_index"])
    assert seen > set(range(USERS))
    assert {user for user, code in enumerate(lens.user.id_codes.tolist()) if code == user + 1} == seen
    assert not lens.training
    assert have_equal_weights(weights, grown.state_dict())
    same, nothing = continue_lens(lens, log, CONTINUATION)
    assert have_equal_weights(same.state_dict(), lens.state_dict())
    assert nothing.is_empty()
    assert nothing.schema == training_log.schema


def test_a_lens_of_one_part_per_batch_is_trained_further_by_one_of_several_workers(logs, trained, monkeypatch) -> None:
    workers = []
    monkeypatch.setattr(growth, "train_together", lambda train, engine, step: workers.append(engine.workers))
    continue_lens(trained, logs[1], CONTINUATION, LOCAL.model_copy(update={"kind": "ray", "workers": 2}))
    assert trained.config.batch_parts == 1
    assert workers == [1]


def test_frozen_statistics_are_those_that_it_was_validated_with(logs, config) -> None:
    old, log = logs
    frozen = config.model_copy(update={"statistics_delay": "frozen", "max_epochs": 1, "learning_rate": 1e-3})
    lens, training_log = continue_lens(fit_lens(old, frozen)[0], log, CONTINUATION)
    assert training_log["validation_auc"].arg_max() > 0
    validation = log.samples.filter(split="validation")
    auc = roc_auc_score(validation["label"], lens_states(lens, log, validation)["logit"])
    assert auc == pytest.approx(training_log["validation_auc"].max(), abs=1e-6)


def test_new_rows_are_all_learned_and_old_ones_at_their_share(logs, trained, monkeypatch) -> None:
    _, log = logs
    drawn = []
    monkeypatch.setattr(LensTraining, "epoch", lambda _, rows, __: drawn.append(rows) or 0.0)
    continue_lens(grow_lens(trained, log), log, CONTINUATION.model_copy(update={"replay": 0.2}))
    seconds = log.samples["timestamp"].to_numpy()
    new = [row for row in log.rows_in("train") if seconds[row] > trained.sizes.trained_until]
    for rows in drawn:
        old = set(rows) - set(new)
        assert set(new) < set(rows)
        assert len(rows) == len(new) + len(old)
        assert len(old) == round(len(new) / 4)
    assert set(drawn[0]) != set(drawn[1])


def test_a_start_that_no_epoch_betters_is_kept(logs, trained) -> None:
    _, log = logs
    grown = grow_lens(trained, log)
    kept, training_log = continue_lens(trained, log, CONTINUATION.model_copy(update={"learning_rate": 1.0}))
    assert have_equal_weights(kept.state_dict(), grown.state_dict())
    assert training_log.height == 3
    blind = replace(log, samples=log.samples.with_columns(label=pl.lit(1, pl.Int8)))
    kept, _ = continue_lens(trained, blind, CONTINUATION)  # nothing to tell better from worse
    assert have_equal_weights(kept.state_dict(), grown.state_dict())


def test_an_id_gets_a_vector_of_its_own_that_starts_as_the_unknown_one() -> None:
    entity = EntityEmbedding(EntitySizes(rows=3, fields=0, width=1, values=0), embedding_dim=2, id_dropout=0)
    entity.id_codes[1] = 2
    before = entity(torch.arange(3))
    entity.learn_ids(torch.tensor([True, True, False]))
    assert entity.id_codes.tolist() == [1, 2, 0]
    assert torch.equal(entity(torch.arange(3)), before)


def test_users_left_out_leave_no_vector_and_the_others_keep_theirs(logs, trained) -> None:
    old, _ = logs
    kept = torch.tensor([user for user in range(USERS) if user not in (3, 11)])
    lens = rearrange_lens(trained, replace(old, users=old.users[kept.tolist()]), kept, torch.arange(ITEMS))
    assert torch.equal(lens.user(torch.arange(USERS - 2)), trained.user(kept))
    rows = {tuple(row) for row in lens.user.ids.weight.tolist()}
    assert not rows & {tuple(row) for row in trained.user.ids.weight[[4, 12]].tolist()}


def test_a_log_that_did_not_grow_from_the_lens_s_is_refused(logs, trained) -> None:
    old, grown = logs
    with pytest.raises(MismatchError, match="The log has 7 users, but the lens knows 20, and a log may only grow"):
        grow_lens(trained, replace(old, users=old.users[:7]))
    levels = grown.sequences.rating_level + 1
    with pytest.raises(MismatchError, match="The log has 5 rating levels, but the lens knows 4"):
        grow_lens(trained, replace(grown, sequences=replace(grown.sequences, rating_level=levels)))
