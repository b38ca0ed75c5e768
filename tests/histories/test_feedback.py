"""Statistics of earlier ratings against a plain count, and their blindness to what comes later."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro.histories.feedback import STATISTICS, FeedbackLog
from reclora_kedro.histories.sequences import build_samples, build_sequences

USERS, ITEMS = 12, 15
GENRES = [None, "Drama", "War", "Drama, War", "Drama, Comedy, War"]
TABLE = pl.DataFrame(
    {"item_id": range(ITEMS), "title": ["A"] * ITEMS, "genres": (GENRES * 3)[:ITEMS], "year": ["90s", "80s", None] * 5}
)


def random_log(seed, rows=400, seconds=150):
    random = np.random.default_rng(seed)
    log = pl.DataFrame(
        {
            "user_id": random.integers(USERS, size=rows),
            "item_id": random.integers(ITEMS, size=rows),
            "rating": random.integers(1, 6, size=rows).astype(float),
            "timestamp": random.integers(1_000, 1_000 + seconds, size=rows),
        }
    )
    return log.with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8)).unique(["user_id", "item_id", "timestamp"])


def tables_of(log):
    sequences = build_sequences(log, TABLE, pl.DataFrame({"user_id": range(USERS)}))
    return sequences, build_samples(sequences, 1)


def feedback_statistics(samples, sequences, items):
    return FeedbackLog(sequences, items).statistics(samples)


def values_of(item):
    row = TABLE.row(item, named=True)
    return {*(row["genres"] or "").split(", "), row["year"]} - {"", None}


def likeness(item, other):
    both = values_of(item) & values_of(other)
    return len(both) / (len(values_of(item)) * len(values_of(other))) ** 0.5 if both else 0


def counted(log, user, item, timestamp):
    """The statistics of one sample, row by row; every event of an earlier second counts."""

    def rate(values):
        return (sum(values) + 1.5) / (len(values) + 3)

    def past_of(item, timestamp):
        past = log.filter((pl.col("item_id") == item) & (pl.col("timestamp") < timestamp)).sort("timestamp")
        return past["label"].to_list(), ((past["rating"] - 1) / 4).to_list()

    def leniency(row):
        likes, ratings = past_of(row["item_id"], row["timestamp"])
        return row["label"] - rate(likes), (row["rating"] - 1) / 4 - rate(ratings)

    likes, ratings = past_of(item, timestamp)
    own = log.filter((pl.col("user_id") == user) & (pl.col("timestamp") < timestamp)).sort("timestamp", "item_id")
    own_likes, each = own["label"].to_list(), [leniency(row) for row in own.iter_rows(named=True)]
    weights = [likeness(item, other) for other in own["item_id"]]
    such = [
        sum(w * x for w, x in zip(weights, part, strict=True)) / (sum(weights) + 3) for part in zip(*each, strict=True)
    ]
    return {
        "item_like_rate": rate(likes),
        "item_mean_rating": rate(ratings),
        "item_ratings": np.log1p(len(likes)),
        "user_like_rate": rate(own_likes),
        "user_recent_like_rate": rate(own_likes[-10:]),
        "user_ratings": np.log1p(len(own_likes)),
        "leniency": sum(x for x, _ in each) / (len(each) + 3),
        "recent_leniency": sum(x for x, _ in each[-10:]) / (len(each[-10:]) + 3),
        "leniency_to_such_items": such[0] if such else 0,
        "rating_leniency_to_such_items": such[1] if such else 0,
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_are_what_counting_gives(seed):
    log = random_log(seed)
    sequences, samples = tables_of(log)
    found = feedback_statistics(samples, sequences, TABLE)
    for place in range(0, samples.height, 17):
        row = samples.row(place, named=True)
        expected = counted(log, row["user_index"], row["item_index"], row["timestamp"])
        statistics = dict(zip(STATISTICS, found[place].tolist(), strict=True))
        assert {name: statistics[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_recent_like_rates_are_of_the_last_ten_ratings():
    log = random_log(2, seconds=10_000)
    sequences, samples = tables_of(log)
    found = feedback_statistics(samples, sequences, TABLE)[:, STATISTICS.index("item_recent_like_rate")]
    for place in range(0, samples.height, 17):
        row = samples.row(place, named=True)
        past = (
            log.filter((pl.col("item_id") == row["item_index"]) & (pl.col("timestamp") < row["timestamp"]))
            .sort("timestamp", "user_id")
            .tail(10)["label"]
        )
        assert found[place] == pytest.approx((past.sum() + 1.5) / (len(past) + 3), rel=1e-5)


def test_what_comes_later_and_the_rows_own_second_change_nothing():
    log = random_log(3)
    sequences, samples = tables_of(log)
    moment = samples["timestamp"].mode().sort()[0]
    now = samples.filter(pl.col("timestamp") == moment)
    later = pl.col("timestamp") >= moment
    other = log.with_columns(
        label=pl.when(later).then(1 - pl.col("label")).otherwise("label"),
        rating=pl.when(later).then(6 - pl.col("rating")).otherwise("rating"),
    )
    assert now.height > 1
    np.testing.assert_array_equal(
        feedback_statistics(now, sequences, TABLE), feedback_statistics(now, tables_of(other)[0], TABLE)
    )


def test_a_moment_after_the_log_counts_all_of_it():
    sequences, _ = tables_of(random_log(4))
    now = {"user_index": [2], "item_index": [7], "history_end": sequences.offsets[[3]], "timestamp": [9_999]}
    [statistics] = feedback_statistics(pl.DataFrame(now), sequences, TABLE)
    assert np.expm1(statistics[STATISTICS.index("item_ratings")]) == pytest.approx((sequences.item_index == 7).sum())
    assert np.expm1(statistics[STATISTICS.index("user_ratings")]) == pytest.approx(np.diff(sequences.offsets)[2])


def test_items_without_fields_and_ratings_of_one_level_are_no_obstacle():
    log = random_log(5).with_columns(rating=1.0, label=pl.lit(1, dtype=pl.Int8))
    sequences, samples = tables_of(log)
    found = feedback_statistics(samples, sequences, TABLE.select("item_id", "title"))
    assert np.isfinite(found).all()
    assert not found[:, STATISTICS.index("leniency_to_such_items")].any()


def test_blocks_change_nothing(monkeypatch):
    sequences, samples = tables_of(random_log(6))
    whole = feedback_statistics(samples, sequences, TABLE)
    monkeypatch.setattr("reclora_kedro.histories.feedback.CELLS_AT_ONCE", 50)
    np.testing.assert_allclose(feedback_statistics(samples, sequences, TABLE), whole, rtol=1e-6)
