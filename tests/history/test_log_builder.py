"""The builder agrees with plain loops over the log, in one part and in many."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kedro_provenance.errors import MismatchError
from random_logs import ITEMS, USERS, interaction_tables, log_of, with_impressions
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.taken_items import Rules, TakenItems, draw_positives
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reference_log import add_negatives, reference_log

EVENTS = pl.DataFrame(
    {
        "user_id": ["bob", "bob", "ann", "dora", "bob", "dora"],
        "item_id": [3, 5, 3, 21, 8, 3],
        "timestamp": [10, 20, 30, 40, 50, 60],
        "rating": [5.0, 2.0, 5.0, 2.0, 5.0, 5.0],
        "label": [1, 0, 1, 0, 1, 1],
    }
)


def config(**changes):
    return HistoryConfig(
        **{
            "seed": 0,
            "min_history": 1,
            "shared_clock": True,
            "ties": "strict",
            "rating_levels": None,
            "split": {"kind": "global_time", "train": 0.6, "validation": 0.2},
            "negatives": {"kind": "none", "per_positive": 1},
            "item_embedding": {"encoders": ["tfidf"], "max_tokens": 8, "tokens_per_batch": 64, "components": 2},
            "short": {},
            "prompt_rows": {"unit": "likes", "few_shot": None, "validation": None, "test": None},
        }
        | changes
    )


def in_parts_of(rows):
    return LOCAL.model_copy(update={"rows_per_part": rows})


def assert_identical(left: InteractionLog, right: InteractionLog) -> None:
    for name in ("items", "users", "samples"):
        assert_frame_equal(getattr(left, name), getattr(right, name), check_exact=True)
    assert left.sequences.schema == right.sequences.schema
    arrays, others = ({"offsets": each.sequences.offsets} | each.sequences.columns for each in (left, right))
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        other = others[name]
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes())


@given(
    interaction_tables(),
    st.integers(1, 20),
    st.sampled_from(["strict", "order"]),
    st.sampled_from(["global_time", "per_user_last_out"]),
    st.sampled_from([None, 2, 4]),
    st.integers(1, 3),
    st.sampled_from(["none", "matched", "uniform"]),
)
def test_a_log_agrees_with_plain_loops(interactions, rows_per_part, ties, split, levels, min_history, negatives):
    interactions = interactions.sort("timestamp", "user_id", "item_id")
    settings = config(
        ties=ties,
        split={"kind": split, "train": 0.6, "validation": 0.2},
        rating_levels=levels,
        min_history=min_history,
        negatives={"kind": negatives, "per_positive": 2},
    )
    require_the_reference(interactions, settings, rows_per_part)


@given(
    interaction_tables(),
    st.integers(1, 20),
    st.sampled_from(["global_time", "per_user_last_out"]),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
    st.sampled_from(["esh", "eh"]),
)
def test_a_log_of_impressions_agrees_with_plain_loops(interactions, rows_per_part, split, min_history, random, kinds):
    rows = with_impressions(interactions, random, kinds).sort("timestamp", "user_id", "item_id")
    settings = config(
        split={"kind": split, "train": 0.4, "validation": 0.3},
        rating_levels=2,
        min_history=min_history,
        negatives={"kind": "none" if "s" in kinds else "matched", "per_positive": 1},
    )
    require_the_reference(rows, settings, rows_per_part)


def require_the_reference(interactions, settings, rows_per_part):
    log = reference_log(
        interactions, ITEMS, USERS, settings.min_history, settings.ties, settings.split, settings.rating_levels
    )
    if log.samples.is_empty():
        with pytest.raises(ValueError, match=rf"history\.min_history is {settings.min_history}: .* \(at most \d"):
            built(interactions, settings, rows_per_part)
        return
    if settings.negatives.kind != "none":
        log = replace(log, samples=add_negatives(log, settings.negatives, settings.seed))
    for rows in (rows_per_part, interactions.height):
        assert_identical(built(interactions, settings, rows), log)


def built(interactions, settings, rows_per_part, report=None):
    """The log, even where none of so few rows trains."""
    with patch("reclora_kedro.history.log_builder.require_training_samples"):
        log = build_log(interactions, ITEMS, USERS, settings, in_parts_of(rows_per_part), report)
    if isinstance(log, InteractionLog):
        return log
    with TemporaryDirectory() as folder:
        log.save(Path(folder))
        return InteractionLog.load(Path(folder))


@pytest.mark.parametrize(
    ("ties", "samples"),
    # In order, each user loses the first three rows: the rule that leaves 970,009 of MovieLens-1M's rows.
    [("order", [("ann", 13, 3), ("ann", 21, 4), ("ann", 3, 5), ("bob", 21, 3)]), ("strict", [("ann", 3, 5)])],
)
@pytest.mark.parametrize("rows_per_part", [1, 100])
def test_a_sample_has_min_history_events_that_its_history_may_show(ties, samples, rows_per_part):
    interactions = pl.DataFrame(
        {
            "user_id": ["ann"] * 5 + ["bob"] * 4 + ["ann"],
            "item_id": [3, 5, 8, 13, 21, 3, 5, 8, 21, 3],
            "timestamp": [9] * 9 + [10],
            "rating": [1.0] * 10,
            "label": [0] * 10,
        }
    )
    report = CleaningReport()
    log = built(interactions, config(min_history=3, ties=ties), rows_per_part, report)
    ids = log.samples.with_columns(
        user=log.users["user_id"][log.samples["user_index"]],
        item=log.items["item_id"][log.samples["item_index"]],
        length=pl.col("history_end") - log.sequences.offsets[log.samples["user_index"].to_numpy()],
    )
    assert sorted(ids.select("user", "item", "length").rows()) == sorted(samples)
    counts = {record["check"]: record["rows"] for record in report.records()}
    assert counts["interactions"] == 10
    assert counts["interactions with fewer than 3 events in their history"] == 10 - len(samples)
    assert sum(counts[f"{split} samples"] for split in ("train", "validation", "test")) == len(samples)


@pytest.mark.parametrize("rows_per_part", [1, 1_000])
@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], (6, 2, 2)),
        ([1, 2, 3, 4, 5, 5, 5, 8, 9, 10], (7, 1, 2)),  # the bound cuts off one of three: it moves behind them
        ([1, 2, 3, 4, 5, 6, 6, 6, 6, 10], (5, 4, 1)),  # it moves before the four, the next one behind them
    ],
)
def test_rows_of_one_second_are_in_one_split(seconds, sizes, rows_per_part):
    rows = {"user_id": ["ann", "bob"] * 5, "item_id": [3, 3, 5, 5, 8, 8, 13, 13, 21, 21], "timestamp": seconds}
    first = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": [3, 3], "timestamp": [0, 0]})
    interactions = pl.concat([first, pl.DataFrame(rows)]).with_columns(pl.col("timestamp") + 1, rating=1.0, label=1)
    log = built(interactions, config(), rows_per_part)
    splits = log.samples["split"]
    assert tuple(splits.eq(name).sum() for name in ("train", "validation", "test")) == sizes
    assert log.samples.group_by("timestamp").agg(pl.col("split").n_unique())["split"].to_list() == [1] * len({*seconds})


@pytest.mark.parametrize(
    ("ties", "splits"),
    [
        ("strict", ["train", "validation", "test", "test", "test"]),
        ("order", ["train", "train", "train", "validation", "test"]),
    ],
)
def test_last_out_takes_each_users_last_second_whole_or_with_ties_in_order_their_last_event(ties, splits):
    interactions = pl.DataFrame(
        {
            "user_id": ["ann"] * 6,
            "item_id": [3, 5, 8, 3, 13, 21],
            "timestamp": [1, 2, 3, 4, 4, 4],
            "rating": 1.0,
            "label": 1,
        }
    ).sort("timestamp", "item_id")
    settings = config(ties=ties, split={"kind": "per_user_last_out", "train": 0.6, "validation": 0.2})
    assert built(interactions, settings, 2).samples["split"].to_list() == splits


@pytest.mark.parametrize("rows_per_part", [100, 1_000])
def test_samples_of_items_taken_before_are_counted(caplog, rows_per_part):
    random = np.random.default_rng(0)
    interactions = pl.DataFrame(
        {
            "user_id": random.choice(USERS["user_id"].to_numpy(), 300),
            "item_id": random.choice(ITEMS["item_id"].to_numpy()[:3], 300),
            "timestamp": np.arange(300) + 1,
            "rating": 1.0,
            "label": 1,
        }
    )
    built(interactions, config(negatives={"kind": "uniform", "per_positive": 1}), rows_per_part)
    assert "of 296 rows are of items that their user had taken before" in caplog.text


@given(
    interaction_tables(),
    st.integers(1, 20),
    st.sampled_from(["global_time", "per_user_last_out"]),
    st.sampled_from(["matched", "uniform"]),
)
def test_likes_of_items_taken_before_are_held_out_also_where_negatives_are_drawn(interactions, rows, split, negatives):
    def log_with(kind):
        settings = {"split": {"kind": split, "train": 0.6, "validation": 0.2}, "shared_clock": split == "global_time"}
        return built(interactions, config(negatives={"kind": kind, "per_positive": 1}, **settings), rows)

    with suppress(ValueError):  # the log is too short
        without, drawn = log_with("none"), log_with(negatives)
        held_out = drawn.repeats.filter(pl.col("split") != "train")
        assert not drawn.training_events()[held_out["event"]].any()
        for part in ("train", "validation", "test"):
            plain, likes = (draw_positives(log, part, None, 0, Rules(repeat=True)) for log in (without, drawn))
            assert likes["row"].is_unique().all()
            assert_frame_equal(likes.drop("row"), plain.drop("row"), check_row_order=False)


HALVES = config(split={"kind": "global_time", "train": 0.5, "validation": 0.25})


class TestBuild:
    config = HALVES

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

    def test_no_negative_of_a_log_of_likes_alone_enters_a_history(self):
        negatives = {"kind": "matched", "per_positive": 1}
        log = build_log(*likes_alone(), HistoryConfig(**self.config.model_dump() | {"negatives": negatives}))
        assert log.samples.group_by("split").agg(pl.col("label").mean())["label"].to_list() == [0.5] * 3
        assert log.samples["split"].rle().struct.unnest()["value"].to_list() == ["train", "validation", "test"]
        assert log.sequences.label.all()
        assert len(log.sequences.label) == 400

    def test_fine_ratings_fall_into_levels_of_the_training_split(self):
        log = build_log(*fine_ratings(), self.config.model_copy(update={"rating_levels": 4}))
        levels, rating = log.sequences.rating_level, log.sequences.rating
        assert levels.dtype == np.uint8
        training = np.bincount(levels[log.samples.filter(pl.col("split") == "train")["event"]])
        assert len(training) == 4
        assert np.ptp(training) <= 2
        order = np.argsort(rating)
        assert (np.diff(levels[order].astype(int)) >= 0).all()

    @pytest.mark.parametrize("levels", [None, 4])
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


def likes_alone() -> tuple[pl.DataFrame, ...]:
    """Canonical tables of 40 users and items with 400 likes at random."""
    random = np.random.default_rng(0)
    likes = {name: random.integers(40, size=400) for name in ("user_id", "item_id")}
    log = pl.DataFrame(likes | {"timestamp": np.arange(400) + 1}).with_columns(rating=1.0, label=1)
    return log, pl.DataFrame({"item_id": range(40)}), pl.DataFrame({"user_id": range(40)})


def fine_ratings() -> tuple[pl.DataFrame, ...]:
    """Canonical tables of 40 users and items with 900 ratings at random, of which the later half teaches no level."""
    random = np.random.default_rng(0)
    ids = {name: random.integers(40, size=900) for name in ("user_id", "item_id")}
    ratings = np.where(np.arange(900) < 450, random.uniform(0, 10, 900), 99.0)
    log = pl.DataFrame(ids | {"timestamp": np.arange(900) + 1, "rating": ratings})
    log = log.with_columns(label=(pl.int_range(pl.len()) % 2).cast(pl.Int8))
    return log, pl.DataFrame({"item_id": range(40)}), pl.DataFrame({"user_id": range(40)})


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
    config = HALVES

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

    def test_positives_after_a_starting_history_get_drawn_negatives(self):
        log, items, users = impressions()
        config = HistoryConfig(**self.config.model_dump() | {"negatives": {"kind": "matched", "per_positive": 1}})
        log = build_log(log.drop_nulls("rating"), items, users, config)
        assert log.samples.height > 300
        assert log.samples["label"].mean() == 0.5
        assert not TakenItems.from_sequences(log.sequences).before(log.samples).any()


def one_second() -> tuple[pl.DataFrame, ...]:
    log, *entities = impressions()
    return log.filter(pl.col("timestamp") == 280), *entities


REFUSED = {
    "a user that the table lacks": (
        lambda: (EVENTS, ITEMS, USERS[:1]),
        {},
        MismatchError,
        r"user_id that the users table lacks, for example \['.*'\]: the tables stem from different runs",
    ),
    "ratings too fine for levels": (
        fine_ratings,
        {},
        ValueError,
        r"rating_levels is null, .* 4\d\d distinct values: .*Set it to a number",
    ),
    "impressions with ties in order": (
        impressions,
        {"ties": "order"},
        ValueError,
        r"history\.ties is 'order', .* Set it to strict",
    ),
    "impressions with negatives": (
        impressions,
        {"negatives": {"kind": "matched", "per_positive": 1}},
        ValueError,
        r"history\.negatives\.kind is 'matched': the log has 800 impressions .* Set it to none",
    ),
    "impressions drawn by rows": (
        impressions,
        {"prompt_rows": {"unit": "rows", "few_shot": None, "validation": None, "test": None}},
        ValueError,
        r"history\.prompt_rows\.unit is 'rows', but the log has 800 impressions .* Set it to likes",
    ),
    "histories longer than any": (
        impressions,
        {"min_history": 50},
        ValueError,
        r"history\.min_history is 50: .* 1000 interactions .* \(at most 11\)\. Lower it",
    ),
    "a single second": (
        one_second,
        {},
        ValueError,
        r"at most 0\)\. Give users with events in more than one second",
    ),
}
"""By what is wrong: the canonical tables, changes of the settings, and the error with what it says."""


@pytest.mark.parametrize(("tables", "changes", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_tables_and_settings_that_do_not_fit_are_refused(tables, changes, error, message):
    log, items, users = tables()
    with pytest.raises(error, match=message):
        build_log(log, items, users, HistoryConfig(**HALVES.model_dump() | changes), in_parts_of(log.height // 2))


@pytest.mark.parametrize(("kind", "rows"), [("per_user_last_out", 2), ("global_time", None)])
def test_training_rows_that_know_test_rows_of_others_are_counted(kind, rows):
    times = {"ann": [1, 2, 3, 4], "bob": [5, 6, 7, 8, 9]}  # ann's last event tests; bob's training events are later
    log = pl.DataFrame(
        [(user, 3 + 2 * (t % 2), t) for user in times for t in times[user]],
        ["user_id", "item_id", "timestamp"],
        orient="row",
    )
    log = log.with_columns(rating=pl.lit(5.0), label=pl.lit(1, pl.Int8))
    report = CleaningReport()
    built(log, config(split={"kind": kind, "train": 0.6, "validation": 0.2}, min_history=1), 99, report)
    counts = {record["check"]: record["rows"] for record in report.records()}
    assert counts.get("train samples later than the first test sample") == rows
