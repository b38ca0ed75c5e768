"""Cleaning agrees with plain loops over the log, in one part and in many."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleaned_tables import SETTINGS, clean_interactions
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.ingestion import cleaning
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig

IN_PARTS = LOCAL.model_copy(update={"rows_per_part": 7})


def config(**changes):
    interactions = {"user_id": "user", "item_id": "item", "rating": "stars", "timestamp": "second"}
    interactions |= {"timestamp_format": "unix_seconds"} | changes.pop("interactions", {})
    plausible_times = {"first_day": "1970-01-01", "last_day": "1970-01-01", "max_outside": 1}
    own = {"interactions": interactions, "plausible_times": plausible_times}
    return IngestionConfig(**SETTINGS | own | changes)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cid", None]),
        st.integers(1, 4),
        st.sampled_from([1.0, 3.0, 4.0, 5.0, 9.0, None]),
        st.sampled_from([1, 2, 3, 40, 50, 80_000, 90_000, 0, None]),
    ),
    min_size=8,
    max_size=60,
)


@given(
    ROWS,
    st.integers(0, 3),
    st.sampled_from(["rating", "like", "impression"]),
    st.sampled_from(["highest_rating", "lowest_rating"]),
    st.integers(1, 20),
)
def test_a_log_agrees_with_plain_loops_in_any_number_of_parts(rows, k_core, kind, duplicates, size):
    raw = pl.DataFrame(
        rows, schema={"user": pl.String, "item": pl.Int64, "stars": pl.Float64, "second": pl.Int64}, orient="row"
    )
    raw = raw.with_columns(click=pl.col("stars").gt(3).cast(pl.Int8))
    columns = {"rating": {}, "like": {"rating": None}, "impression": {"rating": None, "clicked": "click"}}[kind]
    settings = config(interactions=columns, k_core=k_core, duplicates=duplicates)
    expected, counts = reference(rows, k_core, kind, duplicates)
    for rows_per_part in (size, len(rows)):
        engine = LOCAL.model_copy(update={"rows_per_part": rows_per_part})
        if not expected:
            with pytest.raises(
                ValueError, match=r"raw_interactions has no interaction left after cleaning \(raw interactions: "
            ):
                clean_interactions(raw.lazy(), settings, engine)
            continue
        log, report = clean_interactions(raw.lazy(), settings, engine)
        assert log.rows() == expected
        assert [record["rows"] for record in report] == counts


def reference(rows, k_core, kind, duplicates):
    """The canonical rows, and the counts of the report in its order."""
    faults = {
        "rating": [lambda row: row[2] is None, lambda row: not 1 <= row[2] <= 5],
        "like": [],
        "impression": [lambda row: row[2] is None, lambda row: False],
    }[kind]
    faults = [
        lambda row: row[0] is None,
        *faults,
        lambda row: row[3] is None,
        lambda row: row[3] <= 0,
        lambda row: False,
        lambda row: row[3] >= 86_400,
    ]
    dropped, events = [0] * len(faults), {}
    for place, (user, item, stars, second) in enumerate(rows):
        row = (user, item, stars, second)
        number = next((number for number, broken in enumerate(faults) if broken(row)), None)
        if number is not None:
            dropped[number] += 1
            continue
        rating = {"rating": stars, "like": 1.0}.get(kind, float((stars or 0) > 3))
        events.setdefault((second, user, item), []).append((rating, place))
    repeated = sum(map(len, events.values())) - len(events)
    sign = 1 if duplicates == "lowest_rating" and kind != "impression" else -1
    kept = {key: min(rated, key=lambda each: (sign * each[0], each[1])) for key, rated in events.items()}
    log = {key: rating for key, (rating, _) in kept.items()}
    rows_before, left = len(log), -1
    while k_core > 1 and left != len(log):
        left = len(log)
        users, items = (Counter(key[place] for key in log) for place in (1, 2))
        log = {key: rating for key, rating in log.items() if min(users[key[1]], items[key[2]]) >= k_core}
    liked = {key: kind == "like" or rating >= (4 if kind == "rating" else 1) for key, rating in log.items()}
    canonical = [
        (user, item, None if kind == "impression" and not rating else rating, second, int(liked[second, user, item]))
        for (second, user, item), rating in sorted(log.items(), key=lambda each: (each[0][:2], kept[each[0]][1]))
    ]
    counts = [len(rows), *dropped, repeated, rows_before - len(log), len(log), sum(liked.values())]
    return canonical, counts


def test_faults_name_the_row_of_the_whole_log():
    raw = pl.DataFrame({"user": 1, "item": range(30), "stars": 4, "second": 5, "day": ["1970-01-01"] * 30})
    raw = raw.with_columns(day=pl.when(pl.col("item") == 24).then(pl.lit("soon")).otherwise("day"))
    settings = config(interactions={"timestamp": "day", "timestamp_format": "%Y-%m-%d"})
    with pytest.raises(ValueError, match=r"the first is 'soon' in row 25\. Change `ingestion.interactions.timestamp_"):
        clean_interactions(raw.lazy(), settings, IN_PARTS)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"no column 'second', only: user, item\. Set `ingestion"):
        clean_interactions(pl.LazyFrame({"user": [1] * 9, "item": 1}), config(interactions={"rating": None}), IN_PARTS)


def test_times_that_are_not_believed_are_refused_as_a_whole():
    times = pl.Series([5] * 28 + [90_000_000] * 2)
    raw = pl.LazyFrame({"user": 1, "item": range(30), "stars": 4, "second": times})
    settings = {"first_day": "1970-01-01", "last_day": "1970-01-01"}
    log, _ = clean_interactions(raw, config(plausible_times=settings | {"max_outside": 0.1}), IN_PARTS)
    assert log.height == 28
    with pytest.raises(ValueError, match=r"2 of 30 times .* the first is 90000000 in row 29\. They look like"):
        clean_interactions(raw, config(plausible_times=settings | {"max_outside": 0.01}), IN_PARTS)


def test_files_are_removed_with_the_log(tmp_path):
    raw = pl.LazyFrame({"user": 1, "item": range(30), "stars": 4, "second": range(1, 31)})
    engine = IN_PARTS.model_copy(update={"scratch": str(tmp_path)})
    log = cleaning.clean_interactions(raw, config(), CleaningReport(), engine)
    [scratch] = tmp_path.iterdir()
    assert {file.suffix for file in scratch.iterdir()} == {".parquet"}
    assert log.collect().height == 30
    del log
    assert not list(tmp_path.iterdir())
