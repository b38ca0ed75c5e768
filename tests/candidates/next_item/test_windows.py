"""Windows of training events, and likes that validate."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cycle_log import EVENTS, USERS, cycle_log
from reclora_kedro.candidates.next_item.training import Windows
from reclora_kedro.history.taken_items import validation_likes


@pytest.mark.parametrize("kind", ["global_time", "per_user_last_out"])
@pytest.mark.parametrize("length", [1, 4, 50])
def test_each_training_event_but_a_users_first_is_one_windows_target(kind, length):
    log = cycle_log(kind)
    windows = Windows.from_log(log, length)
    targets = np.concatenate([np.arange(a + 1, b + 1) for a, b in zip(windows.first, windows.last, strict=True)])
    held_out = log.samples.filter(pl.col("split") != "train")["event"].to_numpy()
    training = np.setdiff1d(np.arange(USERS * EVENTS), held_out)
    assert windows.items.tolist() == log.sequences.item_index[training].tolist()
    first_of_user = np.unique(training // EVENTS, return_index=True)[1]
    assert sorted(targets) == np.setdiff1d(np.arange(len(training)), first_of_user).tolist()
    assert windows.targets.max() <= length


def test_a_batch_holds_items_and_targets_left_aligned():
    windows = Windows(np.array([5, 6, 7, 8]), np.array([0, 2]), np.array([2, 3]))
    items, is_target = windows.batch(np.array([1, 0]))
    assert items[1].tolist() == [5, 6, 7]
    assert items[0, :2].tolist() == [7, 8]
    assert is_target.tolist() == [[True, False], [True, True]]


def table(items, seconds):
    user = np.repeat(np.arange(len(items)), [len(own) for own in items])
    return pl.DataFrame(
        {"user_id": user, "item_id": np.concatenate(items), "rating": 5.0, "timestamp": np.concatenate(seconds)}
    ).with_columns(label=pl.lit(1, pl.Int8))


def test_users_with_one_event_have_no_next_item():
    log = cycle_log(interactions=table([[1]] * 5, [[9], [2], [3], [4], [5]]))
    with pytest.raises(ValueError, match="The training split has no user with two events \\(40 users\\)"):
        Windows.from_log(log, 5)


@pytest.mark.parametrize(
    "interactions",
    [table([[3] * 5] * 9, [range(1, 6)] * 9), table([[1, 2, 3]] * 9, [[u + 1] * 3 for u in range(9)])],
    ids=["one item", "one second per user"],
)
def test_a_log_without_sequences_is_refused(interactions):
    with pytest.raises(ValueError, match=r"The validation split has \d+ likes, .* has no sequences"):
        validation_likes(cycle_log(interactions=interactions), None, 0)


def test_fewer_validation_likes_are_some_of_all(log):
    every, some = validation_likes(log, None, 0), validation_likes(log, 20, 0)
    assert every.height > some.height == 20
    assert some.join(every, on=every.columns).height == 20


def test_a_like_of_an_item_that_its_user_had_taken_does_not_validate(log):
    like, *others = validation_likes(log, None, 0).rows(named=True)
    items = log.sequences.item_index.copy()
    items[log.sequences.offsets[like["user_index"]]] = like["item_index"]
    repeated = replace(log, sequences=replace(log.sequences, item_index=items))
    assert validation_likes(repeated, None, 0).rows(named=True) == others
