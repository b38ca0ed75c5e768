"""Logs that are not what they seem: refused, warned of, or read as the configuration says."""

import logging
import pickle
from datetime import date, time
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pytest

from cleaned_tables import SETTINGS, Cleaned, clean_interactions, counts, describe_items
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.ingestion.config import IngestionConfig, ItemColumns
from reclora_kedro.ingestion.raw_tables import RawColumns

YEAR_2001 = 1_000_000_000


def config(columns: dict[str, Any] | None = None, **changes: Any) -> IngestionConfig:
    times = {"first_day": "1990-01-01", "last_day": "2025-12-31", "max_outside": 0.1}
    shares = {"max_ratings_outside": 0.01, "max_missing": 1, "max_share_of_one_id": 0.5}
    interactions = SETTINGS["interactions"] | (columns or {})
    return IngestionConfig(**SETTINGS | {"plausible_times": times, "interactions": interactions} | shares | changes)


def log_of(**columns: Any) -> pl.DataFrame:
    rows = max(len(values) for values in columns.values() if isinstance(values, list))
    plain = {"u": range(rows), "i": range(rows), "r": [4.0] * rows, "t": range(YEAR_2001, YEAR_2001 + rows)}
    return pl.DataFrame(plain | columns)


def in_parts(raw: pl.DataFrame, settings: IngestionConfig, rows: int | None) -> Cleaned:
    """The log cleaned as a whole, or in parts of so many rows."""
    if rows is None:
        return clean_interactions(raw, settings)
    return clean_interactions(raw.lazy(), settings, LOCAL.model_copy(update={"rows_per_part": rows}))


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize(("column", "what"), [("t", "timestamp"), ("r", "rating")])
def test_a_log_that_lacks_many_times_or_ratings_is_refused_and_warns_of_few(column, what, rows, caplog):
    raw = log_of(**{column: [None, 4.0, 4.0, None, 4.0, 4.0] if column == "r" else [None, 7, 7, None, 7, 7]})
    raw = raw.with_columns(t=pl.col("t") + YEAR_2001) if column == "t" else raw
    told = f"raw_interactions has no {what} in '{column}' in 2 of 6 rows"
    with pytest.raises(ValueError, match=told):
        in_parts(raw, config(max_missing=0.3), rows)
    assert in_parts(raw, config(max_missing=0.4), rows)[0].height == 4
    assert f"{told}, which are dropped" in caplog.text.replace("\n", " ")


class TestScale:
    @pytest.mark.parametrize("rows", [None, 3])
    def test_a_log_of_tenths_is_refused_with_the_range_found(self, rows):
        raw = log_of(r=[0.5, 1.0, 2.0, 7.5, 10.0, 9.5])
        with pytest.raises(
            ValueError,
            match=r"'r' .* ranges from 0\.5 to 10, and 4 of 6 rows .* outside 1 to 5\. Set `ingestion",
        ):
            in_parts(raw, config(), rows)
        assert in_parts(raw, config(rating_min=0.5, rating_max=10), rows)[0].height == 6

    def test_few_ratings_outside_are_dropped_and_counted(self):
        log, report = clean_interactions(log_of(r=[4.0] * 100 + [0.0]), config())
        assert log.height == 100
        assert counts(report)["rating outside 1 to 5"] == 1

    def test_what_is_no_rating_goes_by_its_value(self):
        log, report = clean_interactions(log_of(r=[4.0, 0.0, 0.0]), config({"drop": {"r": [0]}}))
        assert log.height == 1
        assert counts(report) | {"raw interactions": 3, "r is 0": 2, "rating outside 1 to 5": 0} == counts(report)


class TestIds:
    def test_blanks_around_ids_are_counted(self):
        log, report = clean_interactions(log_of(u=["a", "a\u00a0", "a ", "b"]), config(max_share_of_one_id=1))
        assert log["user_id"].unique(maintain_order=True).to_list() == ["a", "b"]
        assert {"check": "user or item ids in blanks", "rows": 2, "rule": "kept without the blanks"} in report

    @pytest.mark.parametrize("rows", [None, 3])
    def test_an_id_with_an_implausible_share_is_warned_of(self, caplog, rows):
        raw = log_of(u=[0.0, 0.0, 0.0, 1.0, 2.0])
        with caplog.at_level(logging.WARNING, "reclora_kedro"):
            _, report = in_parts(raw, config(), rows)
        [warning] = caplog.messages
        assert warning.startswith("user_id 0 has 60% of the log.")
        assert "`ingestion.interactions.unknown_ids.user_id`" in warning
        assert {"check": "rows of user_id 0", "rows": 3, "rule": "kept; more than 50% of all"} in report
        caplog.clear()
        in_parts(raw, config(max_share_of_one_id=0.6), rows)
        assert not caplog.messages

    @pytest.mark.parametrize(
        ("users", "guest"), [([0.0, 0.0, 1.0], 0.0), (["guest", " guest", "1"], "guest"), ([0, 0, 1], "0")]
    )
    def test_ids_that_stand_for_nobody_are_missing(self, users, guest):
        log, report = clean_interactions(log_of(u=users), config({"unknown_ids": {"user_id": [guest]}}))
        assert log["item_id"].to_list() == [2]
        assert counts(report)["missing user or item id"] == 2

    @pytest.mark.parametrize("rows", [None, 2])
    def test_rows_with_a_value_of_any_column_are_dropped(self, rows):
        raw = log_of(u=["a", "b", "c", "d"]).with_columns(
            kind=pl.Series(["sale", "return ", None, "gift"]), paid=pl.Series([True, True, True, False])
        )
        drop = {"kind": ["return", "loan"], "paid": [False]}
        log, report = in_parts(raw, config({"drop": drop}), rows)
        assert log["user_id"].to_list() == ["a", "c"]
        assert counts(report) | {"raw interactions": 4, "kind is return or loan": 1, "paid is False": 1} == counts(
            report
        )

    @pytest.mark.parametrize("rows", [None, 2])
    def test_rows_are_dropped_by_prefix_and_range(self, rows):
        raw = log_of(u=["a", "b", "c", "d", "e"]).with_columns(
            invoice=pl.Series(["7", "C8", None, "C9", "9"]), quantity=pl.Series([1, 2, 3, -1, 0])
        )
        drop = {"invoice": {"starts_with": ["C", "A"]}, "quantity": {"at_most": 0, "at_least": 3}}
        log, report = in_parts(raw, config({"drop": drop}), rows)
        assert log["user_id"].to_list() == ["a"]
        dropped = {"invoice starts with C or A": 2, "quantity is at most 0, or is at least 3": 2}
        assert counts(report) | {"raw interactions": 5} | dropped == counts(report)

    def test_messages_name_the_rows_of_the_file_after_others_are_dropped(self):
        raw = log_of(r=[0.0, 4.0, 4.0], t=["-", "2001-01-01", "soon"])
        columns = {"drop": {"r": [0]}, "timestamp_format": "%Y-%m-%d"}
        with pytest.raises(ValueError, match=r"Column 't' .* 1 of 2 values .* the first is 'soon' in row 3\."):
            clean_interactions(raw, config(columns))


class TestTimesInSeveralColumns:
    @pytest.mark.parametrize("rows", [None, 1])
    @pytest.mark.parametrize(
        ("parts", "time_format"),
        [
            ({"day": ["2001-09-09", "2001-09-09"], "hour": ["01:46:40", None]}, "%Y-%m-%d %H:%M:%S"),
            ({"day": [date(2001, 9, 9)] * 2, "hour": [time(1, 46, 40), None]}, "%Y-%m-%d %H:%M:%S"),
            ({"year": [2001, 2001], "month": [9, 9], "day": [9.0, None]}, "%Y %m %d"),
        ],
    )
    def test_are_joined(self, parts, time_format, rows):
        raw = log_of(u=[1, 2]).drop("t").with_columns(**{name: pl.Series(values) for name, values in parts.items()})
        columns = {"timestamp": [*parts], "timestamp_format": time_format}
        log, report = in_parts(raw, config(columns), rows)
        assert log["timestamp"].to_list() == [YEAR_2001 - ("year" in parts) * 6_400]
        assert counts(report)["missing timestamp"] == 1

    def test_messages_name_them(self):
        raw = log_of(u=[1]).with_columns(day=pl.lit("1985-01-01"), hour=pl.lit("08:00"))
        columns = {"timestamp": ["day", "hour"], "timestamp_format": "%Y-%m-%d %H:%M"}
        with pytest.raises(
            ValueError, match=r"Column 'day, hour' of raw_interactions has .* do not match .* 'soon 08:00' in row 1"
        ):
            clean_interactions(raw.with_columns(day=pl.lit("soon")), config(columns))
        with pytest.raises(
            ValueError, match=r"'day, hour' of raw_interactions has .* outside .* '1985-01-01 08:00' in row 1"
        ):
            clean_interactions(raw, config(columns))


class TestNested:
    @pytest.mark.parametrize("rows", [None, 1])
    def test_lists_become_rows(self, rows):
        nested = {
            "u": [1, 2, 3, 4],
            "i": [[7, 8], [7], [], None],
            "t": [[YEAR_2001, YEAR_2001 + 1], [YEAR_2001], [], None],
        }
        log, report = in_parts(pl.DataFrame(nested), config({"explode": ["i", "t"], "rating": None}), rows)
        assert log.rows() == [
            (1, 7, 1.0, YEAR_2001, 1),
            (2, 7, 1.0, YEAR_2001, 1),
            (1, 8, 1.0, YEAR_2001 + 1, 1),
        ]
        assert counts(report) | {"rows of lists": 4, "raw interactions": 3, "interactions": 3} == counts(report)

    def test_a_pickled_frame_of_lists(self):
        frame = pd.DataFrame({"u": [1, 2], "i": [[7, 8], [9]], "t": [[YEAR_2001, YEAR_2001], [YEAR_2001]]})
        frame = pickle.loads(pickle.dumps(frame))
        log, _ = clean_interactions(frame, config({"explode": ["i", "t"], "rating": None}))
        assert log.select("user_id", "item_id").rows() == [(1, 7), (1, 8), (2, 9)]

    @pytest.mark.parametrize(("separator", "written"), [("[]", "['{}', {}, None]"), ("|", "{}|{}|")])
    def test_lists_written_as_text_become_rows(self, separator, written):
        times = written.replace("'", "").format(YEAR_2001, YEAR_2001 + 1)
        nested = {"u": [1, 2], "i": [written.format("07", 8), ""], "t": [times, None]}
        columns = {"explode": ["i", "t"], "explode_separator": separator, "rating": None}
        log, _ = clean_interactions(pl.DataFrame(nested), config(columns))
        assert log.rows() == [(1, "07", 1.0, YEAR_2001, 1), (1, "8", 1.0, YEAR_2001 + 1, 1)]

    def test_messages_name_the_row_of_the_list(self):
        nested = {"u": [1, 2], "i": [[7, 8], [9]], "t": [["2001-01-01"] * 2, ["soon"]]}
        columns = {"explode": ["i", "t"], "rating": None, "timestamp_format": "%Y-%m-%d"}
        with pytest.raises(ValueError, match=r"the first is 'soon' in row 2\."):
            clean_interactions(pl.DataFrame(nested), config(columns))


class TestTitles:
    ROWS = ("mailout", "Tin", "Tin box, red", "Tin", "")

    @pytest.mark.parametrize(
        ("choice", "title"), [("first", "mailout"), ("most_frequent", "Tin"), ("longest", "Tin box, red")]
    )
    def test_the_title_of_an_item_with_several_rows(self, choice, title):
        raw = pl.DataFrame({"i": [1] * 5 + [2, 2, 3], "name": [*self.ROWS, "B", "A", None]})
        items, _ = describe_items(
            raw, pl.DataFrame({"item_id": [1, 2, 3]}), ItemColumns(**SETTINGS["items"] | {"title_choice": choice})
        )
        assert items.rows()[0] == (1, title)
        assert items.rows()[1:] == [(2, "B"), (3, "Unknown title")]


class TestTypes:
    def test_decimal_ids_and_times_of_sql_are_whole_numbers(self):
        raw = RawColumns(pl.DataFrame({"id": [Decimal("7.00"), Decimal("8.00"), None]}), "raw_interactions")
        assert raw.ids("id", "p").to_list() == [7, 8, None]
        assert raw.texts("id", "p").to_list() == ["7", "8", None]
        raw = RawColumns(pl.DataFrame({"id": [Decimal("7.50")]}), "raw_interactions")
        with pytest.raises(ValueError, match=r"whole numbers or text"):
            raw.ids("id", "p")
        assert raw.numbers("id", "p").to_list() == [7.5]

    @pytest.mark.parametrize("time", ["2001-09-09T01:46:40Z", "2001-09-09T03:46:40+02:00", "2001-09-09T01:46:40.5Z"])
    @pytest.mark.parametrize("time_format", ["%Y-%m-%dT%H:%M:%S%.f%z", "%+"])
    def test_iso_times(self, time, time_format):
        raw = RawColumns(pl.DataFrame({"t": [time]}), "raw_interactions")
        assert raw.seconds(["t"], "p", time_format, "f").to_list() == [YEAR_2001]

    def test_the_report_does_not_speak_of_ratings_that_there_are_none_of(self):
        _, report = clean_interactions(log_of(u=[1]), config({"rating": None}, rating_max=3))
        assert not [row for row in report if "rating" in row["check"] + row["rule"].replace("there are no ratings", "")]
