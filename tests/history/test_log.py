import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kedro_provenance.errors import MismatchError
from random_logs import ITEMS, USERS, interaction_tables, log_of, logs
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.history.sequences import user_of_events

EVENTS = pl.DataFrame(
    {
        "user_id": ["bob", "bob", "ann", "dora", "bob", "dora"],
        "item_id": [3, 5, 3, 21, 8, 3],
        "timestamp": [10, 20, 30, 40, 50, 60],
        "rating": [5.0, 2.0, 5.0, 2.0, 5.0, 5.0],
        "label": [1, 0, 1, 0, 1, 1],
    }
)
PAIRS = st.lists(st.tuples(st.integers(0, USERS.height - 1), st.integers(0, ITEMS.height - 1)), max_size=6)


@pytest.fixture
def log() -> InteractionLog:
    return log_of(EVENTS)


def with_ids(log: InteractionLog, ids: list) -> InteractionLog:
    return replace(log, users=pl.DataFrame({"user_id": ids}))


def assert_identical(left: InteractionLog, right: InteractionLog) -> None:
    for name in ("items", "users", "samples"):
        assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)
    assert left.sequences.schema == right.sequences.schema
    arrays, others = ({"offsets": each.sequences.offsets} | each.sequences.columns for each in (left, right))
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        other = others[name]
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_samples_that_do_not_train_leave_their_split(log):
    samples = pl.DataFrame({"row": range(5), "split": ["train", "train", "train", "validation", "test"]})
    fewer = replace(log, samples=samples).with_training_rows(np.array([2, 0]))
    assert fewer.samples["split"].to_list() == ["train", "none", "train", "validation", "test"]
    assert fewer.samples["row"].to_list() == list(range(5))


class TestEmbeddings:
    @pytest.mark.parametrize("rows", [0, 4, 6])
    def test_that_are_not_one_per_item_are_refused(self, log, rows):
        message = rf"item_embeddings has {rows} rows, but the log has 5 items: they stem from different runs"
        with pytest.raises(MismatchError, match=message) as refusal:
            log.with_embeddings(np.zeros((rows, 2)))
        assert refusal.value.entries == ("item_embeddings",)

    def test_join_the_log_and_change_nothing_else(self, log):
        embeddings = np.eye(5)
        embedded = log.with_embeddings(embeddings)
        assert embedded.item_embeddings is embeddings
        assert log.item_embeddings is None
        assert_identical(embedded, log)

    def test_stay_when_samples_change(self, log):
        embedded = log.with_embeddings(np.eye(5))
        chosen = replace(embedded, samples=log.samples[2:4])
        assert chosen.item_embeddings is embedded.item_embeddings
        assert_identical(chosen, replace(log, samples=log.samples[2:4]))


def test_rows_in_a_split_are_row_numbers(log):
    names = ["train", "test", "train", "validation", "test", "train"]
    divided = replace(log, samples=log.samples.with_columns(split=pl.Series(names)))
    assert {name: divided.rows_in(name).tolist() for name in ("train", "validation", "test", "none")} == {
        "train": [0, 2, 5],
        "validation": [3],
        "test": [1, 4],
        "none": [],
    }


@given(logs())
def test_events_of_training_are_those_until_its_end_or_other_samples_of_the_user(log):
    is_test = pl.col("row") >= log.samples.height // 2
    split = pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train"))
    log = replace(log, samples=log.samples.with_columns(split=split))
    known, training = log.training_events(), log.samples.filter(split="train")
    ends = dict(log.samples.filter(split="test").group_by("user_index").agg(pl.col("history_end").min()).iter_rows())
    user = user_of_events(log.sequences.offsets)
    assert known[training["event"]].all()
    assert not known[log.samples.filter(split="test")["event"]].any()
    sampled = set(log.samples["event"])
    for event, second in enumerate(log.sequences.timestamp):
        if event not in sampled:
            until = ends.get(user[event], len(user))
            assert known[event] == (training.height > 0 and second <= training["timestamp"].max() and event < until)


class TestSamplesNow:
    @given(logs(), PAIRS)
    def test_see_every_event_of_their_user_and_none_of_others(self, log, pairs):
        pairs = pl.DataFrame(pairs, schema={"user_index": pl.Int32, "item_index": pl.Int32}, orient="row")
        now = log.now(pairs)
        assert now.select(pairs.columns).equals(pairs)
        assert (now["timestamp"] == log.sequences.timestamp.max() + 1).all()
        histories = log.histories(now, WindowConfig(kind="recent", k=100))
        for user, history in zip(pairs["user_index"], histories, strict=True):
            assert history[history >= 0].tolist() == list(range(*log.sequences.offsets[user : user + 2]))

    @given(logs(), PAIRS)
    def test_without_a_shared_clock_are_a_second_after_the_users_own_last_event(self, log, pairs):
        pairs = pl.DataFrame(pairs, schema={"user_index": pl.Int32, "item_index": pl.Int32}, orient="row")
        now = replace(log, shared_clock=False).now(pairs)
        assert now.drop("timestamp").equals(log.now(pairs).drop("timestamp"))
        events, user = log.sequences, pairs["user_index"]
        own = [events.timestamp[events.starts[each] : events.ends[each]].max(initial=0) for each in user]
        assert now["timestamp"].to_list() == [last + 1 for last in own]

    def test_have_the_types_of_samples_and_keep_what_else_there_is_of_the_pairs(self, log):
        now = log.now(log.samples.select("row", "user_index", "item_index"))
        assert now.schema == {name: log.samples.schema[name] for name in now.columns}
        assert now["row"].equals(log.samples["row"])


class TestFindUsers:
    @pytest.mark.parametrize(
        ("users", "asked", "found"),
        [
            (["ann", "bob"], ["bob", "eve", "bob", 7], [("bob", 1), ("eve", None), ("7", None)]),
            ([3, 7], ["7", 9, 3], [(7, 1), (9, None), (3, 0)]),
            ([3, 7], [7, "bob", None, float("nan")], [(7, 1)]),
            ([3, 7], ["7", 7, 7.0, " 7", "\xa07"], [(7, 1)]),
            (["None", "nan"], [None, float("nan"), " nan "], [("nan", 1)]),
            (["007", "7"], [7, "007"], [("7", 1), ("007", 0)]),
            ([-(2**63), 2**63 - 1], [2**63 - 1, -(2**63)], [(2**63 - 1, 1), (-(2**63), 0)]),
            ([3, 7], [], []),
        ],
        ids=["text", "numbers", "no number", "once each", "no ids", "text of digits", "64 bits", "nobody"],
    )
    def test_by_ids_of_any_type_each_once_and_in_the_order_asked(self, log, users, asked, found):
        result = with_ids(log, users).find_users(asked)
        assert result.rows() == found
        assert result.columns == ["user_id", "user_index"]
        assert result.schema["user_index"] == pl.Int32

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            (pl.Series("id", [7, 9, 7]), [(7, 1), (9, None)]),
            (pl.Series("id", ["7", "bob"]), [(7, 1)]),
            (pl.Series("id", ["7", "9"], dtype=pl.Categorical), [(7, 1), (9, None)]),
            (pd.Series([7.0, None]), [(7, 1)]),
            (pd.Series(["7", "9"], dtype="category"), [(7, 1), (9, None)]),
            (pl.LazyFrame({"user_id": [7], "age": [3]}), [(7, 1)]),
            (pd.DataFrame({"customer": [7]}), [(7, 1)]),
        ],
        ids=["numbers", "text", "categories", "gaps", "categories of pandas", "table", "table of one column"],
    )
    def test_by_a_column(self, log, asked, found):
        assert with_ids(log, [3, 7]).find_users(asked).rows() == found

    def test_others_are_named_and_leave_the_type_of_the_ids(self, log, caplog):
        with caplog.at_level(logging.WARNING):
            found = with_ids(log, [3, 7]).find_users([7, "bob", None, 9])
        assert found.schema["user_id"] == pl.Int64
        assert (
            "2 of 4 requested users are left out, because ids of this log's users are whole numbers: 'bob', None."
            in (caplog.text)
        )
        assert "1 of 2 users are unknown, and get the most popular items: 9." in caplog.text

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (["7", "07"], "users: '07': ids of this log are whole numbers: write 7."),
            (["+7"], r"'\+7': .* write 7."),
            (["7e0"], "'7e0': .* write 7."),
            ([True], "users: True is not an id: ids are whole numbers or text."),
            ([7.5], "7.5 is not an id"),
            ([[7]], r"\[7\] is not an id"),
            ({7: 1}, "{7: 1} is not an id"),
            (
                pl.DataFrame({"a": [1], "b": [2]}),
                r"users is a table with the columns a, b\. Give ids, or .* in the column user_id",
            ),
        ],
    )
    def test_what_may_mean_another_user_is_refused(self, log, asked, words):
        with pytest.raises(ValueError, match=words):
            with_ids(log, [3, 7]).find_users(asked)

    def test_finds_every_user_by_the_users_own_column(self, log):
        assert log.find_users(log.users["user_id"])["user_index"].to_list() == [0, 1, 2, 3]


class TestChooseUsers:
    def test_in_the_order_of_their_ids_each_once(self, log):
        assert log.choose_users(["dora", "ann", "dora"], None).tolist() == [3, 0]
        assert with_ids(log, [3, 7, 8, 9]).choose_users((9, "3", "9"), None).tolist() == [3, 0]

    def test_the_most_active_first_and_of_equals_the_first(self, log):
        assert log.choose_users(None, 3).tolist() == [1, 3, 0]  # bob has 3 events, dora 2, ann 1, cid none
        assert log.choose_users(None, 1).tolist() == [1]
        assert log.choose_users(None, 10**6).tolist() == log.choose_users(None, None).tolist() == [1, 3, 0, 2]
        two_or_one = np.cumsum([0] + [1, 2] * 50)
        alike = replace(log, sequences=replace(log.sequences, offsets=two_or_one))
        assert alike.choose_users(None, 50).tolist() == list(range(1, 100, 2))

    def test_unknown_ones_are_refused_by_id(self, log):
        message = r"The users 'nobody', '-5' are not in the log: the log has 4, such as 'ann', 'bob', 'cid'. Correct"
        with pytest.raises(ValueError, match=message):
            log.choose_users(["ann", "nobody", -5], None)
        with pytest.raises(ValueError, match=r"The users '4' are not in the log: the log has 2, such as 3, 7."):
            with_ids(log, [3, 7]).choose_users([3, 4], None)


class TestFiles:
    @given(logs())
    def test_bring_back_a_log_to_the_last_bit(self, log):
        with TemporaryDirectory() as folder:
            log.save(Path(folder))
            assert {path.name for path in Path(folder).iterdir()} == {
                "items.parquet",
                "users.parquet",
                "samples.arrow",
                "sequences.safetensors",
            }
            loaded = InteractionLog.load(Path(folder))
        assert_identical(loaded, log)
        assert loaded.item_embeddings is None

    def test_bring_back_item_embeddings(self, log, tmp_path):
        log.with_embeddings(np.eye(5), [2, 3]).save(tmp_path)
        loaded = InteractionLog.load(tmp_path)
        assert loaded.encoder_widths == (2, 3)
        assert_identical(loaded, log)
        np.testing.assert_array_equal(loaded.item_embeddings, np.eye(5))

    def test_bring_back_splits_repeats_and_gaps(self, log, tmp_path):
        items = ITEMS.with_columns(genres=pl.Series(["Drama, War", None, "", "é", "👩‍🚀"]))
        samples = log.samples.with_columns(split=pl.lit("train"))
        whole = replace(log, items=items, samples=samples, repeats=log.samples[:2])
        whole.save(tmp_path)
        loaded = InteractionLog.load(tmp_path)
        assert_identical(loaded, whole)
        assert loaded.repeats.equals(whole.repeats)

    @pytest.mark.parametrize("shared_clock", [True, False])
    def test_bring_back_whether_times_compare(self, log, tmp_path, shared_clock):
        replace(log, shared_clock=shared_clock).save(tmp_path)
        assert InteractionLog.load(tmp_path).shared_clock is shared_clock


@given(interaction_tables())
def test_histories_are_of_whatever_samples_are_asked_about(interactions):
    log, window = log_of(interactions), WindowConfig(kind="recent", k=50)
    whole = log.histories(log.samples, window)
    for row in range(log.samples.height):
        [alone] = log.histories(log.samples[row : row + 1], window)
        assert alone[alone >= 0].tolist() == whole[row][whole[row] >= 0].tolist()


def test_events_of_the_very_second_of_the_last_training_sample_are_visible_and_later_ones_are_not():
    log = log_of(EVENTS.with_columns(timestamp=pl.Series([10, 20, 30, 50, 50, 60])))  # dora's first, and bob's last
    seconds, of_bob = (
        log.sequences.timestamp,
        log.samples.filter(timestamp=50, item_index=log.items["item_id"].index_of(8)),
    )
    assert of_bob.height == 1
    log = replace(log, samples=of_bob.with_columns(split=pl.lit("train")))
    assert log.training_events().tolist() == (seconds <= 50).tolist()
    assert (seconds == 50).sum() == 2


@given(logs())
def test_without_a_shared_clock_events_of_training_are_all_before_the_users_other_samples(log):
    is_test = pl.col("row") >= log.samples.height // 2
    split = pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train"))
    log = replace(log, samples=log.samples.with_columns(split=split), shared_clock=False)
    ends = dict(log.samples.filter(split="test").group_by("user_index").agg(pl.col("history_end").min()).iter_rows())
    user, trains = user_of_events(log.sequences.offsets), {*log.samples.filter(split="train")["event"]}
    expected = [event in trains or event < ends.get(of_event, len(user)) for event, of_event in enumerate(user)]
    assert log.training_events().tolist() == expected
