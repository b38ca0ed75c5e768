"""Statistics of earlier likes against a plain count, and their blindness to what comes later."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro.histories.feedback import STATISTICS, feedback_statistics
from reclora_kedro.histories.sequences import build_samples, build_sequences


def random_log(seed, rows=400, users=12, items=15, seconds=150):
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": random.integers(users, size=rows),
            "item_id": random.integers(items, size=rows),
            "rating": random.integers(1, 6, size=rows).astype(float),
            "timestamp": random.integers(1_000, 1_000 + seconds, size=rows),
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))


def tables_of(log):
    items, users = (pl.DataFrame({f"{entity}_id": np.arange(15)}) for entity in ("item", "user"))
    sequences = build_sequences(log, items, users)
    return sequences, build_samples(sequences, 1)


def counted(log, user, item, timestamp):
    """The statistics of one sample, row by row; every event of an earlier second counts."""
    past = log.filter(pl.col("timestamp") < timestamp)

    def rate(rows, prior):
        return (rows["label"].sum() + prior / 2) / (rows.height + prior)

    def beyond(row):
        before = log.filter((pl.col("item_id") == row["item_id"]) & (pl.col("timestamp") < row["timestamp"]))
        return row["label"] - rate(before, 5)

    of_item = past.filter(pl.col("item_id") == item)
    own = past.filter(pl.col("user_id") == user).sort("timestamp", "item_id")
    last = own.tail(10)
    return {
        "item_like_rate": rate(of_item, 5),
        "item_ratings": np.log1p(of_item.height),
        "user_like_rate": rate(own, 3),
        "user_ratings": np.log1p(own.height),
        "user_leniency": sum(map(beyond, own.iter_rows(named=True))) / (own.height + 3),
        "recent_like_rate": rate(last, 2),
        "recent_leniency": sum(map(beyond, last.iter_rows(named=True))) / (last.height + 2),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_are_what_counting_gives(seed):
    log = random_log(seed).unique(["user_id", "item_id", "timestamp"])
    sequences, samples = tables_of(log)
    found = feedback_statistics(samples, sequences)
    for place in range(0, samples.height, 17):
        row = samples.row(place, named=True)
        expected = counted(log, row["user_index"], row["item_index"], row["timestamp"])
        assert dict(zip(STATISTICS, found[place].tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)


def test_what_comes_later_and_the_rows_own_second_change_nothing():
    log = random_log(3)
    sequences, samples = tables_of(log)
    moment = 1_080
    now = samples.filter(pl.col("timestamp") == moment)
    other = log.with_columns(label=pl.when(pl.col("timestamp") < moment).then("label").otherwise(1 - pl.col("label")))
    np.testing.assert_array_equal(feedback_statistics(now, sequences), feedback_statistics(now, tables_of(other)[0]))


def test_a_moment_after_the_log_counts_all_of_it():
    sequences, _ = tables_of(random_log(4))
    now = pl.DataFrame(
        {"user_index": [2], "item_index": [7], "history_end": sequences.offsets[[3]], "timestamp": [9_999]}
    )
    [statistics] = feedback_statistics(now, sequences)
    assert np.expm1(statistics[STATISTICS.index("item_ratings")]) == pytest.approx((sequences.item_index == 7).sum())
    assert np.expm1(statistics[STATISTICS.index("user_ratings")]) == pytest.approx(np.diff(sequences.offsets)[2])
