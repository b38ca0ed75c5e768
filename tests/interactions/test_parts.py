"""A log that is cleaned part by part is the one that is cleaned as a whole."""

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.interactions.cleaning import clean_interactions
from reclora_kedro.interactions.config import IngestionConfig
from reclora_kedro.interactions.parts import clean_in_parts

IN_PARTS = LOCAL.model_copy(update={"rows_per_part": 7})


def config(**changes):
    interactions = {"user_id": "user", "item_id": "item", "rating": "stars", "timestamp": "second"}
    return IngestionConfig(
        **{
            "interactions": interactions | {"timestamp_format": "unix_seconds"} | changes.pop("interactions", {}),
            "items": {
                "item_id": "item",
                "title": "name",
                "missing_title": "?",
                "trailing_articles": [],
                "fields": [],
            },
            "users": None,
            "plausible_times": {"first_day": "1970-01-01", "last_day": "1970-01-01", "max_outside": 1},
            "rating_min": 1,
            "rating_max": 5,
            "label_threshold": 4,
            "duplicates": "highest_rating",
            "k_core": 0,
        }
        | changes
    )


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


@given(ROWS, st.integers(0, 3), st.sampled_from(["rating", "like", "impression"]), st.integers(1, 20))
def test_a_log_in_parts_is_the_whole_one(rows, k_core, kind, size):
    raw = pl.DataFrame(
        rows, schema={"user": pl.String, "item": pl.Int64, "stars": pl.Float64, "second": pl.Int64}, orient="row"
    )
    raw = raw.with_columns(click=pl.col("stars").gt(3).cast(pl.Int8))
    columns = {"rating": {}, "like": {"rating": None}, "impression": {"rating": None, "clicked": "click"}}[kind]
    settings, engine = config(interactions=columns, k_core=k_core), LOCAL.model_copy(update={"rows_per_part": size})
    try:
        whole, report = clean_interactions(raw, settings)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            clean_in_parts(raw.lazy(), settings, engine)
        return
    log, report_of_parts = clean_in_parts(raw.lazy(), settings, engine)
    assert log.collect().equals(whole)
    assert report_of_parts == report


def test_faults_name_the_row_of_the_whole_log():
    raw = pl.DataFrame({"user": 1, "item": range(30), "stars": 4, "second": 5, "day": ["1970-01-01"] * 30})
    raw = raw.with_columns(day=pl.when(pl.col("item") == 24).then(pl.lit("soon")).otherwise("day"))
    settings = config(interactions={"timestamp": "day", "timestamp_format": "%Y-%m-%d"})
    with pytest.raises(ValueError, match=r"the first is 'soon' in row 25\. Change `ingestion.interactions.timestamp_"):
        clean_in_parts(raw.lazy(), settings, IN_PARTS)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"no column 'second', only: user, item\. Set `ingestion"):
        clean_in_parts(pl.LazyFrame({"user": [1] * 9, "item": 1}), config(interactions={"rating": None}), IN_PARTS)


def test_times_that_are_not_believed_are_refused_as_a_whole():
    times = pl.Series([5] * 28 + [90_000_000] * 2)
    raw = pl.LazyFrame({"user": 1, "item": range(30), "stars": 4, "second": times})
    settings = {"first_day": "1970-01-01", "last_day": "1970-01-01"}
    log, _ = clean_in_parts(raw, config(plausible_times=settings | {"max_outside": 0.1}), IN_PARTS)
    assert log.collect().height == 28
    with pytest.raises(ValueError, match=r"2 of 2 times .* the first is 90000000 in row 29\. They look like"):
        clean_in_parts(raw, config(plausible_times=settings | {"max_outside": 0.01}), IN_PARTS)


def test_files_are_removed_with_the_log(tmp_path):
    raw = pl.LazyFrame({"user": 1, "item": range(30), "stars": 4, "second": range(1, 31)})
    log, _ = clean_in_parts(raw, config(), IN_PARTS.model_copy(update={"scratch": str(tmp_path)}))
    [scratch] = tmp_path.iterdir()
    assert {file.suffix for file in scratch.iterdir()} == {".parquet"}
    assert log.collect().height == 30
    del log
    assert not list(tmp_path.iterdir())
