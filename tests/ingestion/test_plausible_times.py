"""Times that are not believed: dropped where they are few, refused where the format is wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from cleaned_tables import clean_interactions
from reclora_kedro.ingestion.config import IngestionConfig

TIMES = [880_606_923 + 1_000 * row for row in range(100)]


def clean(times: list[Any], time_format: str = "unix_seconds", **range_changes: Any) -> tuple[pl.DataFrame, list]:
    config = IngestionConfig(
        interactions={
            "user_id": "u",
            "item_id": "i",
            "rating": "r",
            "timestamp": "t",
            "timestamp_format": time_format,
        },
        items={"item_id": "i", "title": "name", "missing_title": "?", "trailing_articles": [], "fields": []},
        users=None,
        plausible_times={"first_day": "1990-01-01", "last_day": None, "max_outside": 0.01, **range_changes},
        rating_min=1,
        rating_max=5,
        max_ratings_outside=1,
        max_missing=1,
        max_share_of_one_id=1,
        label_threshold=4,
        duplicates="highest_rating",
        k_core=0,
    )
    return clean_interactions(pl.DataFrame({"u": 1, "i": range(len(times)), "r": 4.0, "t": times}), config)


def test_the_report_says_which_days_the_log_spans():
    _, report = clean(TIMES)
    assert report[-2] == {"check": "interactions", "rows": 100, "rule": "rows kept; from 1997-11-27 to 1997-11-28"}


def test_few_times_outside_are_dropped_and_counted():
    log, report = clean([*TIMES, *TIMES, 5, TIMES[0] * 1_000], max_outside=0.01)
    assert log.height == 200
    counts = {row["check"]: row["rows"] for row in report if row["rule"] == "dropped" and row["rows"]}
    assert counts == {"timestamp before 1990-01-01": 1, "timestamp after tomorrow": 1}


def test_the_last_day_is_tomorrow_or_the_one_given():
    now = datetime.now(UTC)
    soon, late = (round((now + timedelta(days=days)).timestamp()) for days in (1, 2))
    assert clean([*TIMES, soon], max_outside=0)[0].height == 101
    for kept in ({"last_day": None}, {"last_day": "1997-11-28"}):
        log, _ = clean([*TIMES, late], **kept)
        assert log.height == 100
    assert clean([*TIMES, late], last_day="9999-12-31")[0].height == 101
    assert clean(TIMES, last_day="1997-11-27", max_outside=1)[0]["timestamp"].max() < 880_675_200


def test_a_row_long_after_the_end_of_an_old_log_is_dropped_and_counted():
    day, begin = 86_400, TIMES[0]
    times = [begin + day * number // 100 for number in range(2000)]  # of 20 days
    ends = times[-1]
    for later, kept in (([30 * day, 9000 * day], 2000), ([15 * day], 2001), ([30 * day] * 3, 2003)):
        log, report = clean([*times, *(ends + each for each in later)])
        dropped = {row["check"]: row["rows"] for row in report if row["rule"] == "dropped" and row["rows"]}
        assert log.height == kept
        assert dropped == ({"timestamp long after 1997-12-17, the last plausible day": 2} if kept == 2000 else {})
    assert clean([*times, ends + 30 * day], last_day="2020-01-01")[0].height == 2001


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("unix_seconds", "unix_milliseconds"),
        ("unix_seconds", "unix_microseconds"),
        ("unix_seconds", "unix_nanoseconds"),
        ("unix_milliseconds", "unix_seconds"),
        ("unix_nanoseconds", "unix_milliseconds"),
    ],
)
def test_a_wrong_unit_is_named_with_the_setting_that_corrects_it(stated, found):
    ticks = {"unix_seconds": 1, "unix_milliseconds": 10**3, "unix_microseconds": 10**6, "unix_nanoseconds": 10**9}
    times = [second * ticks[found] for second in TIMES]
    with pytest.raises(ValueError, match="Column 't' of raw_interactions has 100 of 100 times outside") as refusal:
        clean(times, stated)
    assert f"{found.removeprefix('unix_')}, but were read as {stated.removeprefix('unix_')}" in str(refusal.value)
    assert f"set `ingestion.interactions.timestamp_format` to {found}." in str(refusal.value)
    assert f"the first is {times[0]} in row 1." in str(refusal.value)
    assert clean(times, found)[0]["timestamp"].to_list() == TIMES


@pytest.mark.parametrize(("times", "time_format"), [([5] * 10, "unix_seconds"), (["1971-01-01"] * 10, "%Y-%m-%d")])
def test_other_times_that_are_not_believed_name_the_range(times, time_format):
    with pytest.raises(ValueError, match=r"10 of 10 times .* change `ingestion\.plausible_times`"):
        clean(times, time_format)
