import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import ITEMS, USERS, interaction_tables, log_of, logs, with_impressions
from reclora_kedro.errors import MismatchError
from reclora_kedro.histories.sequences import (
    RatingStep,
    Sequences,
    build_impression_samples,
    build_samples,
    build_sequences,
    rating_levels,
)


def assert_same_arrays(left: Sequences, right: Sequences) -> None:
    for name, array in vars(left).items():
        assert array.dtype == getattr(right, name).dtype
        np.testing.assert_array_equal(array, getattr(right, name))


@given(interaction_tables())
def test_sequences_hold_every_event_of_the_log_once(interactions):
    sequences = log_of(interactions).sequences
    user_index = np.repeat(np.arange(USERS.height), np.diff(sequences.offsets))
    stored = pl.DataFrame(
        {
            "user_id": USERS["user_id"].gather(user_index),
            "item_id": ITEMS["item_id"].gather(sequences.item_index),
            "timestamp": sequences.timestamp,
            "rating": sequences.rating.astype(float),
            "label": sequences.label,
        }
    )
    assert stored.equals(interactions.sort("user_id", "timestamp", "item_id"))
    levels = {rating: level for level, rating in enumerate(sorted(set(interactions["rating"])))}
    assert sequences.rating_level.tolist() == [levels[rating] for rating in sequences.rating.tolist()]


@given(logs())
def test_sequences_have_the_agreed_types(log):
    assert {name: array.dtype.name for name, array in vars(log.sequences).items()} == {
        "offsets": "int64",
        "item_index": "int32",
        "rating": "float32",
        "rating_level": "uint8",
        "label": "int8",
        "timestamp": "int64",
    }
    assert log.samples.schema == {
        "row": pl.UInt32,
        "user_index": pl.Int32,
        "item_index": pl.Int32,
        "label": pl.Int8,
        "timestamp": pl.Int64,
        "event": pl.Int64,
        "history_end": pl.Int64,
    }


@given(interaction_tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_logs_rows_changes_nothing(interactions, random):
    shuffled = interactions[random.sample(range(interactions.height), interactions.height)]
    plain, permuted = log_of(interactions), log_of(shuffled)
    assert_same_arrays(plain.sequences, permuted.sequences)
    assert plain.samples.equals(permuted.samples)


@given(interaction_tables(), st.integers(min_value=0, max_value=3))
def test_samples_agree_with_a_loop_over_the_log(interactions, min_history):
    ordered = interactions.sort("timestamp", "user_id", "item_id").rows(named=True)
    expected = []
    for place, row in enumerate(ordered):
        before = [other for other in ordered[:place] if other["user_id"] == row["user_id"]]
        if len(before) >= min_history:
            strictly = [other for other in before if other["timestamp"] < row["timestamp"]]
            expected.append((row["user_id"], row["item_id"], row["timestamp"], row["label"], len(strictly)))
    if not expected:
        with pytest.raises(ValueError, match=r"history\.min_history"):
            log_of(interactions, min_history)
        return
    log = log_of(interactions, min_history)
    samples, start = log.samples, log.sequences.offsets[log.samples["user_index"]]
    assert samples["row"].to_list() == list(range(len(expected)))
    found = zip(
        USERS["user_id"].gather(samples["user_index"]),
        ITEMS["item_id"].gather(samples["item_index"]),
        samples["timestamp"],
        samples["label"],
        (samples["history_end"].to_numpy() - start).tolist(),
        strict=True,
    )
    assert list(found) == expected
    event = samples["event"].to_numpy()
    np.testing.assert_array_equal(log.sequences.item_index[event], samples["item_index"])
    np.testing.assert_array_equal(log.sequences.timestamp[event], samples["timestamp"])


@given(logs())
def test_ties_in_order_leave_out_what_comes_later_in_the_sequence_alone(log):
    strict, order = (build_samples(log.sequences, 0, ties) for ties in ("strict", "order"))
    assert order["history_end"].equals(order["event"].alias("history_end"))
    assert order.drop("history_end").equals(strict.drop("history_end"))
    extra = [slice(*ends) for ends in zip(strict["history_end"], order["history_end"], strict=True)]
    for events, moment in zip(extra, order["timestamp"], strict=True):
        assert (log.sequences.timestamp[events] == moment).all()


@given(interaction_tables(), st.integers(min_value=0, max_value=3), st.randoms(use_true_random=False))
def test_samples_of_impressions_agree_with_a_loop_over_the_log(interactions, min_history, random):
    rows = with_impressions(interactions, random).sort("timestamp", "user_id", "item_id")
    events = [row for row in rows.rows(named=True) if row["rating"] is not None]
    expected = []
    for row in rows.filter(pl.col("label").is_not_null()).rows(named=True):
        own = [other for other in events if other["user_id"] == row["user_id"]]
        history = [other for other in own if other["timestamp"] < row["timestamp"]]
        same = [other["item_id"] for other in own if other["timestamp"] == row["timestamp"]]
        item = row["item_id"] if row["rating"] is not None else min(same, default=None)
        if len(history) >= min_history:
            expected.append((row["user_id"], row["item_id"], row["timestamp"], row["label"], len(history), item))
    if not expected:
        with pytest.raises(ValueError, match=r"history\.min_history"):
            build_impression_samples(rows, ITEMS, USERS, min_history)
        return
    sequences = build_sequences(rows, ITEMS, USERS)
    assert len(sequences.rating) == len(events)
    samples = build_impression_samples(rows, ITEMS, USERS, min_history)
    assert samples.schema == build_samples(sequences, 0).schema if len(events) else True
    assert samples["row"].to_list() == list(range(len(expected)))
    items = ITEMS["item_id"]
    found = zip(
        USERS["user_id"].gather(samples["user_index"]),
        items.gather(samples["item_index"]),
        samples["timestamp"],
        samples["label"],
        (samples["history_end"].to_numpy() - sequences.offsets[samples["user_index"]]).tolist(),
        (None if event is None else items[int(sequences.item_index[event])] for event in samples["event"]),
        strict=True,
    )
    assert list(found) == expected


@given(interaction_tables())
def test_a_log_without_impressions_has_the_samples_that_it_always_had(interactions):
    plain = log_of(interactions)
    assert build_impression_samples(interactions, ITEMS, USERS, 0).equals(plain.samples)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.5, 1, 3]),
    st.sampled_from([np.float32, np.float64]),
)
def test_ratings_on_a_grid_of_the_step_have_a_level_each(steps, step, kind):
    ratings = (np.array(steps) * step).astype(kind)
    levels = rating_levels(ratings, ratings, RatingStep(step=step))
    assert (levels.astype(int) == np.array(steps) - min(steps)).all()


def test_too_fine_a_step_is_refused():
    with pytest.raises(ValueError, match=r"rating_levels\.step 0\.01 makes 1001 levels, at most 256 .* a larger step"):
        rating_levels(np.array([0.0, 10.0]), np.array([0.0, 10.0]), RatingStep(step=0.01))


def test_each_user_loses_min_history_rows_even_where_events_tie():
    # The rule that leaves 970,009 of MovieLens-1M's rows: all but each user's first five, ties or not.
    interactions = pl.DataFrame(
        {
            "user_id": ["ann"] * 5 + ["bob"] * 2,
            "item_id": [3, 5, 8, 13, 21, 3, 5],
            "timestamp": [9] * 7,
            "rating": [1.0] * 7,
            "label": [0] * 7,
        }
    )
    samples = log_of(interactions, min_history=3).samples
    assert samples["item_index"].to_list() == [3, 4]
    assert samples["history_end"].to_list() == [0, 0]


@pytest.mark.parametrize(
    ("column", "foreign", "message"),
    [
        ("item_id", 4, r"interactions name 1 values of item_id that the items table lacks, for example \[4\]: .*runs"),
        ("user_id", "eve", r"1 values of user_id that the users table lacks, for example \['eve'\]"),
    ],
)
def test_an_id_that_its_table_lacks_is_refused(column, foreign, message):
    event = {"user_id": ["ann"], "item_id": [3], "timestamp": [1], "rating": [1.0], "label": [0]}
    with pytest.raises(MismatchError, match=message) as refusal:
        build_sequences(pl.DataFrame(event | {column: [foreign]}), ITEMS, USERS)
    assert refusal.value.entries == ("interactions", f"{column.removesuffix('_id')}s")


def test_more_distinct_ratings_than_a_level_holds_are_refused():
    ratings = [place / 100 for place in range(257)]
    interactions = pl.DataFrame(
        {"user_id": "ann", "item_id": 3, "timestamp": range(1, 258), "rating": ratings, "label": [0] * 257}
    )
    with pytest.raises(ValueError, match=r"interactions\.rating has 257 distinct values, at most 256"):
        build_sequences(interactions, ITEMS, USERS)
