import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_logs import ITEMS, USERS, interaction_tables, log_of, logs
from reclora_kedro.errors import MismatchError
from reclora_kedro.histories.sequences import Sequences, build_samples, build_sequences


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
