from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from random_logs import ITEMS, USERS, interaction_tables, log_of, logs
from reclora_kedro.errors import MismatchError
from reclora_kedro.histories.config import HistoryConfig
from reclora_kedro.histories.log import InteractionLog, build_log
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.histories.taken_items import TakenItems

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
    for name, array in vars(left.sequences).items():
        other = getattr(right.sequences, name)
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


class TestSamplesNow:
    @given(logs(), PAIRS)
    def test_see_every_event_of_their_user_and_none_of_others(self, log, pairs):
        pairs = pl.DataFrame(pairs, schema={"user_index": pl.Int32, "item_index": pl.Int32}, orient="row")
        now = log.now(pairs).samples
        assert now.select(pairs.columns).equals(pairs)
        assert (now["timestamp"] == log.sequences.timestamp.max() + 1).all()
        histories = log.histories(now, WindowConfig(kind="recent", k=100))
        for user, history in zip(pairs["user_index"], histories, strict=True):
            assert history[history >= 0].tolist() == list(range(*log.sequences.offsets[user : user + 2]))

    def test_have_the_types_of_samples_and_nothing_else_of_the_pairs(self, log):
        pairs = log.samples.with_columns(score=0.5)
        now = log.now(pairs).samples
        assert now.columns == ["user_index", "item_index", "history_end", "timestamp"]
        assert all(log.samples.schema[name] == dtype for name, dtype in now.schema.items() if name != "timestamp")
        assert replace(log, samples=now).samples is now


class TestFindUsers:
    @pytest.mark.parametrize(
        ("users", "asked", "found"),
        [
            (["ann", "bob"], ["bob", "eve", "bob", 7], [("bob", 1), ("eve", None), ("7", None)]),
            ([3, 7], ["7", 9, 3], [(7, 1), (9, None), (3, 0)]),
            ([3, 7], [7, "bob"], [("7", 1), ("bob", None)]),
            ([3, 7], ["7", 7, "07"], [(7, 1)]),
            (["007", "7"], [7, "007"], [("7", 1), ("007", 0)]),
            ([-(2**63), 2**63 - 1], [2**63 - 1, -(2**63)], [(2**63 - 1, 1), (-(2**63), 0)]),
            ([3, 7], [], []),
        ],
        ids=["text", "numbers", "no number", "once each", "text of digits", "64 bits", "nobody"],
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
            (pl.Series("id", ["7", "bob"]), [("7", 1), ("bob", None)]),
        ],
        ids=["numbers", "text"],
    )
    def test_by_a_column(self, log, asked, found):
        assert with_ids(log, [3, 7]).find_users(asked).rows() == found

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
        message = r"The users 'nobody', '-5' are none of the log's 4, such as ann, bob, cid: correct the ids"
        with pytest.raises(ValueError, match=message):
            log.choose_users(["ann", "nobody", -5], None)
        with pytest.raises(ValueError, match=r"The users 4 are none of the log's 2, such as 3, 7:"):
            with_ids(log, [3, 7]).choose_users([3, 4], None)


class TestFiles:
    @given(logs())
    def test_bring_back_a_log_to_the_last_bit(self, log):
        with TemporaryDirectory() as folder:
            log.save(Path(folder))
            assert {path.name for path in Path(folder).iterdir()} == {
                "items.parquet",
                "users.parquet",
                "samples-00000.parquet",
                "sequences.safetensors",
            }
            loaded = InteractionLog.load(Path(folder))
        assert_identical(loaded, log)
        assert loaded.item_embeddings is None

    def test_bring_back_item_embeddings(self, log, tmp_path):
        log.with_embeddings(np.eye(5)).save(tmp_path)
        loaded = InteractionLog.load(tmp_path)
        assert_identical(loaded, log)
        np.testing.assert_array_equal(loaded.item_embeddings, np.eye(5))

    def test_bring_back_splits_and_gaps(self, log, tmp_path):
        items = ITEMS.with_columns(genres=pl.Series(["Drama, War", None, "", "é", "👩‍🚀"]))
        whole = replace(log, items=items, samples=log.samples.with_columns(split=pl.lit("train")))
        whole.save(tmp_path)
        assert_identical(InteractionLog.load(tmp_path), whole)


class TestBuild:
    config = HistoryConfig(
        seed=0,
        min_history=1,
        ties="strict",
        rating_levels=None,
        split={"kind": "global_time", "train": 0.5, "validation": 0.25},
        negatives={"kind": "none", "per_positive": 1},
        item_embedding={"encoders": ["tfidf"], "max_tokens": 8, "tokens_per_batch": 64, "components": 2},
        short={},
        prompt_rows={"few_shot": None, "validation": None, "test": None},
    )

    def test_divides_the_samples_of_the_canonical_tables(self):
        random = np.random.default_rng(0)
        interactions = pl.DataFrame(
            {
                "user_id": random.choice(USERS["user_id"].to_list(), 84),
                "item_id": random.choice(ITEMS["item_id"].to_numpy(), 84),
                "timestamp": np.arange(84) + 1,
                "rating": random.choice([2.0, 5.0], 84),
            }
        ).with_columns(label=(pl.col("rating") > 3).cast(pl.Int8))
        log = build_log(interactions, ITEMS, USERS, self.config)
        assert log.samples["split"].rle().struct.unnest().rows() == [(40, "train"), (20, "validation"), (20, "test")]
        assert_identical(replace(log, samples=log.samples.drop("split")), log_of(interactions, min_history=1))
        assert log.item_embeddings is None

    def test_a_log_of_likes_alone_needs_negatives_of_which_none_enters_a_history(self):
        random = np.random.default_rng(0)
        users, items = (pl.DataFrame({name: range(40)}) for name in ("user_id", "item_id"))
        likes = {name: random.integers(40, size=400) for name in ("user_id", "item_id")}
        interactions = pl.DataFrame(likes | {"timestamp": np.arange(400) + 1}).with_columns(rating=1.0, label=1)
        with pytest.raises(ValueError, match=r"the train split .* are liked \(label 1\).* history\.negatives"):
            build_log(interactions, items, users, self.config)
        negatives = {"kind": "matched", "per_positive": 1}
        log = build_log(
            interactions, items, users, HistoryConfig(**self.config.model_dump() | {"negatives": negatives})
        )
        assert log.samples.group_by("split").agg(pl.col("label").mean())["label"].to_list() == [0.5] * 3
        assert log.samples["split"].rle().struct.unnest()["value"].to_list() == ["train", "validation", "test"]
        assert log.sequences.label.all()
        assert len(log.sequences.label) == 400

    def test_fine_ratings_fall_into_levels_of_the_training_split(self):
        random = np.random.default_rng(0)
        users, items = (pl.DataFrame({name: range(40)}) for name in ("user_id", "item_id"))
        ids = {name: random.integers(40, size=900) for name in ("user_id", "item_id")}
        ratings = np.where(np.arange(900) < 450, random.uniform(0, 10, 900), 99.0)  # later ones teach no level
        interactions = pl.DataFrame(ids | {"timestamp": np.arange(900) + 1, "rating": ratings})
        interactions = interactions.with_columns(label=(pl.int_range(pl.len()) % 2).cast(pl.Int8))
        with pytest.raises(ValueError, match=r"4\d\d distinct values, .* set history\.rating_levels to a number"):
            build_log(interactions, items, users, self.config)
        log = build_log(interactions, items, users, self.config.model_copy(update={"rating_levels": 4}))
        levels, rating = log.sequences.rating_level, log.sequences.rating
        assert levels.dtype == np.uint8
        training = np.bincount(levels[log.samples.filter(pl.col("split") == "train")["event"]])
        assert len(training) == 4
        assert np.ptp(training) <= 2
        order = np.argsort(rating)
        assert (np.diff(levels[order].astype(int)) >= 0).all()

    @pytest.mark.parametrize("levels", [None, 4, {"step": 0.5}])
    def test_what_comes_after_the_training_split_changes_no_level(self, levels):
        random = np.random.default_rng(0)
        interactions = pl.DataFrame(
            {
                "user_id": random.choice(USERS["user_id"].to_list(), 84),
                "item_id": random.choice(ITEMS["item_id"].to_numpy(), 84),
                "timestamp": np.arange(84) + 1,
                "rating": random.choice([1.0, 2.0, 5.0], 84),
            }
        ).with_columns(label=(pl.int_range(pl.len()) % 2).cast(pl.Int8))
        config = HistoryConfig(**self.config.model_dump() | {"rating_levels": levels})
        log = build_log(interactions, ITEMS, USERS, config)
        end = log.samples.filter(pl.col("split") == "train")["timestamp"].max()
        later = pl.when(pl.col("timestamp") > end).then(pl.col("timestamp") / 10).otherwise("rating")
        other = build_log(interactions.with_columns(rating=later), ITEMS, USERS, config)
        before = log.sequences.timestamp <= end
        assert before.any()
        np.testing.assert_array_equal(log.sequences.rating_level[before], other.sequences.rating_level[before])
        assert other.sequences.rating_level.max() == log.sequences.rating_level.max()

    def test_refuses_a_log_that_cannot_be_divided(self):
        with pytest.raises(ValueError, match=r"the train split of the samples: [01] of 1 rows are liked"):
            build_log(EVENTS, ITEMS, USERS, self.config)

    def test_refuses_tables_of_different_runs(self):
        with pytest.raises(MismatchError, match="values of user_id that the users table lacks"):
            build_log(EVENTS, ITEMS, USERS[:1], self.config)


def impressions() -> tuple[pl.DataFrame, ...]:
    """Twenty users with two earlier clicks, and ten impressions of five items each, of which one is clicked."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(20):
        rows += [(user, item, 1.0, 1 + item, None) for item in (0, 1)]
        for moment in range(10):
            shown = random.choice(30, 5, replace=False).tolist()
            rows += [
                (user, item, None if place else 1.0, 100 + 20 * moment + user, 0 if place else 1)
                for place, item in enumerate(shown)
            ]
    schema = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64, "label": pl.Int8}
    log = pl.DataFrame(rows, schema=schema, orient="row").sort("timestamp", "user_id", "item_id")
    return log, pl.DataFrame({"item_id": range(30)}), pl.DataFrame({"user_id": range(20)})


class TestBuildOfImpressions:
    config = TestBuild.config

    def test_what_was_not_clicked_is_a_sample_and_never_an_event(self):
        log = build_log(*impressions(), self.config)
        assert len(log.sequences.label) == 20 * (2 + 10)
        assert log.sequences.label.all()
        assert (log.sequences.rating == 1).all()
        assert log.samples.height == 20 * 10 * 5
        assert log.samples["label"].sum() == 20 * 10
        moments = log.samples.group_by("user_index", "timestamp").agg(
            pl.col("split", "history_end", "event").n_unique(), pl.col("label").sum()
        )
        assert moments.select(pl.col("split", "history_end", "event", "label") == 1).to_numpy().all()
        assert dict(moments.join(log.samples, on=["user_index", "timestamp"]).group_by("split_right").len().rows()) == {
            "train": 500,
            "validation": 250,
            "test": 250,
        }

    def test_starting_histories_are_events_and_no_samples(self):
        log = build_log(*impressions(), self.config)
        assert log.samples["timestamp"].min() == 100
        first = log.samples.filter(pl.col("timestamp") < 120)
        length = first["history_end"].to_numpy() - log.sequences.offsets[first["user_index"].to_numpy()]
        assert (length == 2).all()

    def test_each_users_last_impression_tests(self):
        config = self.config.model_copy(
            update={"split": self.config.split.model_copy(update={"kind": "per_user_last_out"})}
        )
        samples = build_log(*impressions(), config).samples
        assert (samples.filter(pl.col("split") == "test")["timestamp"] >= 280).all()
        assert samples["split"].value_counts(sort=True).rows()[0] == ("train", 20 * 8 * 5)
        assert samples.filter(pl.col("split") == "validation").height == 20 * 5

    @pytest.mark.parametrize(
        ("changes", "refusal"),
        [
            ({"ties": "order"}, r"history\.ties is 'order', .* Set it to strict"),
            (
                {"negatives": {"kind": "matched", "per_positive": 1}},
                r"history\.negatives\.kind is 'matched', but the log has 800 impressions .* Set it to none",
            ),
            ({"min_history": 50}, r"history\.min_history is 50, .* 1000 interactions .* \(at most 11\): lower it"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, changes, refusal):
        with pytest.raises(ValueError, match=refusal):
            build_log(*impressions(), HistoryConfig(**self.config.model_dump() | changes))

    def test_positives_after_a_starting_history_get_drawn_negatives(self):
        log, items, users = impressions()
        config = HistoryConfig(**self.config.model_dump() | {"negatives": {"kind": "matched", "per_positive": 1}})
        log = build_log(log.drop_nulls("rating"), items, users, config)
        assert log.samples.height > 300
        assert log.samples["label"].mean() == 0.5
        assert not TakenItems.of(log.sequences).before(log.samples).any()


@given(interaction_tables())
def test_histories_are_of_whatever_samples_are_asked_about(interactions):
    log, window = log_of(interactions), WindowConfig(kind="recent", k=50)
    whole = log.histories(log.samples, window)
    for row in range(log.samples.height):
        [alone] = log.histories(log.samples[row : row + 1], window)
        assert alone[alone >= 0].tolist() == whole[row][whole[row] >= 0].tolist()
