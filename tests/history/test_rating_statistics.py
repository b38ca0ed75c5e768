"""Statistics of earlier ratings against a plain count, and their blindness to what comes later."""

import tracemalloc

import numpy as np
import polars as pl
import pytest

from reclora_kedro.history.rating_statistics import COLUMNS, RatingStatistics
from reference_log import reference_log

GENRES = [None, "Drama", "War", "Drama, War", "Drama, Comedy, War"]
ITEMS = pl.DataFrame(
    {"item_id": range(15), "title": ["A"] * 15, "genres": GENRES * 3, "year": ["90s", "80s", None] * 5}
)
USERS = pl.DataFrame({"user_id": range(12)})


def random_interactions(seed, rows=400, seconds=150):
    random = np.random.default_rng(seed)
    interactions = pl.DataFrame(
        {
            "user_id": random.integers(USERS.height, size=rows),
            "item_id": random.integers(ITEMS.height, size=rows),
            "rating": random.integers(1, 6, size=rows).astype(float),
            "timestamp": random.integers(1_000, 1_000 + seconds, size=rows),
        }
    )
    labels = (pl.col("rating") >= 4).cast(pl.Int8)
    return interactions.with_columns(label=labels).unique(["user_id", "item_id", "timestamp"])


def log_of(interactions, items=ITEMS):
    return reference_log(interactions, items, USERS, min_history=1)


def statistics_of(log):
    return RatingStatistics(log).compute(log.samples)


def values_of(item):
    row = ITEMS.row(item, named=True)
    return {*(row["genres"] or "").split(", "), row["year"]} - {"", None}


def likeness(item, other):
    both = values_of(item) & values_of(other)
    return len(both) / (len(values_of(item)) * len(values_of(other))) ** 0.5 if both else 0


def placed(interactions, log):
    """The interactions with their places in the log: events of one second are in an order that is drawn."""
    sequences = log.sequences
    users = np.repeat(np.arange(USERS.height), np.diff(sequences.offsets))
    events = {"user_id": users, "item_id": sequences.item_index.astype(int), "timestamp": sequences.timestamp}
    order = pl.DataFrame(events).with_row_index("place")
    return interactions.join(order, on=["user_id", "item_id", "timestamp"])


def counted(interactions, user, item, timestamp):
    """The statistics of one sample, row by row; every event of an earlier second counts."""

    def before(column, value, timestamp):
        return interactions.filter((pl.col(column) == value) & (pl.col("timestamp") < timestamp))

    def rate(values):
        return (sum(values) + 1.5) / (len(values) + 3)

    def past_of(item, timestamp):
        past = before("item_id", item, timestamp).sort("timestamp", "user_id")
        return past["label"].to_list(), ((past["rating"] - 1) / 4).to_list()

    def leniency(row):
        likes, ratings = past_of(row["item_id"], row["timestamp"])
        return row["label"] - rate(likes), (row["rating"] - 1) / 4 - rate(ratings)

    likes, ratings = past_of(item, timestamp)
    own = before("user_id", user, timestamp).sort("place")
    own_likes, each = own["label"].to_list(), [leniency(row) for row in own.iter_rows(named=True)]
    weights = [likeness(item, other) for other in own["item_id"]]
    such = [
        sum(w * x for w, x in zip(weights, part, strict=True)) / (sum(weights) + 3) for part in zip(*each, strict=True)
    ]
    return {
        "item_like_rate": rate(likes),
        "item_mean_rating": rate(ratings),
        "item_recent_like_rate": rate(likes[-10:]),
        "item_ratings": np.log1p(len(likes)),
        "user_like_rate": rate(own_likes),
        "user_recent_like_rate": rate(own_likes[-10:]),
        "user_ratings": np.log1p(len(own_likes)),
        "leniency": sum(x for x, _ in each) / (len(each) + 3),
        "recent_leniency": sum(x for x, _ in each[-10:]) / (len(each[-10:]) + 3),
        "leniency_to_such_items": such[0] if such else 0,
        "rating_leniency_to_such_items": such[1] if such else 0,
    }


@pytest.mark.parametrize(("seed", "seconds"), [(0, 150), (1, 150), (2, 10_000)])
def test_statistics_are_what_counting_gives(seed, seconds):
    interactions = random_interactions(seed, seconds=seconds)
    log = log_of(interactions)
    found = statistics_of(log)
    assert found.schema == dict.fromkeys(COLUMNS, pl.Float32)
    for place in range(0, log.samples.height, 17):
        row = log.samples.row(place, named=True)
        expected = counted(placed(interactions, log), row["user_index"], row["item_index"], row["timestamp"])
        assert found.row(place, named=True) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_comes_later_and_the_rows_own_second_change_nothing():
    interactions = random_interactions(3)
    log = log_of(interactions)
    moment = log.samples["timestamp"].mode().sort()[0]
    now = log.samples.filter(pl.col("timestamp") == moment)
    later = pl.col("timestamp") >= moment
    other = interactions.with_columns(
        label=pl.when(later).then(1 - pl.col("label")).otherwise("label"),
        rating=pl.when(later).then(6 - pl.col("rating")).otherwise("rating"),
    )
    assert now.height > 1
    assert RatingStatistics(log).compute(now).equals(RatingStatistics(log_of(other)).compute(now))


def test_a_moment_after_the_log_counts_all_of_it():
    log = log_of(random_interactions(4))
    now = log.now(pl.DataFrame({"user_index": [2], "item_index": [7]}))
    [statistics] = RatingStatistics(log).compute(now).rows(named=True)
    assert np.expm1(statistics["item_ratings"]) == pytest.approx((log.sequences.item_index == 7).sum())
    assert np.expm1(statistics["user_ratings"]) == pytest.approx(np.diff(log.sequences.offsets)[2])


@pytest.mark.parametrize("delay", [0, 7, 40.5, 1e9])
def test_with_a_delay_what_is_not_known_yet_does_not_count(delay):
    interactions = random_interactions(8)
    log = log_of(interactions)
    found = RatingStatistics(log, delay).compute(log.samples)
    for place in range(0, log.samples.height, 17):
        row = log.samples.row(place, named=True)
        expected = counted(placed(interactions, log), row["user_index"], row["item_index"], row["timestamp"] - delay)
        assert found.row(place, named=True) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_frozen_statistics_know_nothing_after_their_last_second():
    interactions = random_interactions(9)
    log, until = log_of(interactions), 1_060
    frozen = RatingStatistics(log, until=until).compute(log.samples)
    early = (log.samples["timestamp"] <= until).to_numpy()
    assert frozen.filter(early).equals(statistics_of(log).filter(early))
    later = log.samples.with_columns(timestamp=pl.lit(until + 1)).filter(~early)
    cut = log_of(interactions.filter(pl.col("timestamp") <= until))
    now = cut.now(later)
    assert frozen.filter(~early).equals(RatingStatistics(cut).compute(now))


def test_items_without_fields_and_ratings_of_one_level_are_no_obstacle():
    interactions = random_interactions(5).with_columns(rating=1.0, label=pl.lit(1, dtype=pl.Int8))
    found = statistics_of(log_of(interactions, ITEMS.select("item_id", "title")))
    assert np.isfinite(found.to_numpy()).all()
    assert (found["leniency_to_such_items"] == 0).all()


def test_blocks_change_nothing(monkeypatch):
    log = log_of(random_interactions(6))
    whole = statistics_of(log)
    monkeypatch.setattr("reclora_kedro.history.rating_statistics.CELLS_AT_ONCE", 50)
    np.testing.assert_allclose(statistics_of(log), whole, rtol=1e-6)


def test_many_values_of_a_field_take_no_more_memory():
    user, items = np.zeros(2_000, dtype=int), np.arange(2_000)
    interactions = {"user_id": user, "item_id": items, "rating": 5.0, "timestamp": 1_000 + items, "label": 1}
    brands = pl.DataFrame({"item_id": items, "title": "A", "brand": [f"brand {item // 2}" for item in items]})
    log = log_of(pl.DataFrame(interactions).cast({"label": pl.Int8}), brands)
    tracemalloc.start()
    found = statistics_of(log)["leniency_to_such_items"].to_numpy()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, np.where(log.samples["item_index"] % 2, 0.5 / 4, 0), rtol=1e-6)
    assert most < 2_000 * 1_000 * 8  # bytes of a number per event and brand


def test_ratings_on_a_short_scale_are_between_0_and_1():
    short, long = (
        statistics_of(log_of(random_interactions(9).with_columns(pl.col("rating") * step))) for step in (0.1, 1)
    )
    np.testing.assert_allclose(short, long, rtol=1e-5, atol=1e-6)


def test_no_samples_have_no_statistics():
    log = log_of(random_interactions(7))
    assert RatingStatistics(log).compute(log.samples.clear()).shape == (0, len(COLUMNS))
