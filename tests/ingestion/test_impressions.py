"""Logs of impressions: what was shown, what of it was clicked, and what was clicked before."""

from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleaned_tables import clean_interactions
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.schema import Interactions

COLUMNS: dict[str, Any] = {
    "user_id": "u",
    "item_id": "i",
    "rating": None,
    "timestamp": "t",
    "timestamp_format": "unix_seconds",
}
LISTS = {"impressions": {"separator": " ", "clicked": "-1", "not_clicked": "-0"}}


def config(k_core: int = 0, **columns: Any) -> IngestionConfig:
    items = {"item_id": "i", "title": "name", "missing_title": "?", "trailing_articles": [], "fields": []}
    return IngestionConfig(
        interactions={**COLUMNS, **columns},
        items=items,
        users=None,
        plausible_times={"first_day": "1970-01-01", "last_day": "1999-12-31", "max_outside": 0.1},
        rating_min=1,
        rating_max=5,
        max_ratings_outside=1,
        max_missing=1,
        max_share_of_one_id=1,
        label_threshold=4,
        duplicates="lowest_rating",
        k_core=k_core,
    )


def clean(raw: Any, **changes: Any) -> tuple[list[tuple], dict[str, int], str]:
    """Rows, counts by check, and the rule for positives."""
    log, report = clean_interactions(raw, config(**changes))
    Interactions.validate(log, lazy=True)
    assert len({row["check"] for row in report}) == len(report)
    return log.rows(), {row["check"]: row["rows"] for row in report}, report[-1]["rule"]


def test_starting_histories_come_before_the_first_plausible_time() -> None:
    rows = 20
    raw = pl.DataFrame(
        {"u": 1, "i": range(rows), "c": 1, "t": [10**12, *range(100, 99 + rows)], "h": [["8"]] + [["7"]] * (rows - 1)}
    )
    log, counts, _ = clean(raw, clicked="c", click_history={"column": "h", "separator": None})
    assert log[0] == (1, 7, 1.0, 99, None)
    assert counts["timestamp after 1999-12-31"] == 1


class TestClicked:
    raw = pl.DataFrame(
        {"u": [1, 1, 1, 1, 2], "i": [7, 8, 7, 9, 7], "c": [0, 1, 1, None, 2], "t": [100, 100, 100, 101, 102]}
    )

    @pytest.mark.parametrize("as_table", [lambda frame: frame, lambda frame: frame.lazy(), pl.DataFrame.to_pandas])
    def test_what_was_not_clicked_has_no_rating_and_a_click_wins(self, as_table: Any) -> None:
        rows, counts, rule = clean(as_table(self.raw), clicked="c")
        assert rows == [(1, 8, 1.0, 100, 1), (1, 7, 1.0, 100, 1)]
        assert counts == {
            "raw interactions": 5,
            "missing user or item id": 0,
            "missing mark of a click": 1,
            "mark of a click neither 0 nor 1": 1,
            "missing timestamp": 0,
            "timestamp not positive": 0,
            "timestamp before 1970-01-01": 0,
            "timestamp after 1999-12-31": 0,
            "repeated (user, item, timestamp)": 1,
            "outside the k-core": 0,
            "interactions": 2,
            "positives": 2,
        }
        assert rule == "label 1: clicked; 100.0% of the impressions kept"

    def test_booleans_do_as_well(self) -> None:
        raw = pl.DataFrame({"u": [1, 1], "i": [7, 8], "c": [True, False], "t": 100})
        assert clean(raw, clicked="c")[0] == [(1, 7, 1.0, 100, 1), (1, 8, None, 100, 0)]


class TestLists:
    def test_each_item_shown_is_a_row(self) -> None:
        raw = pl.DataFrame(
            {
                "u": ["U1", "U2", "U1", "U3"],
                "i": ["N1-1  N2-0", "N-0-1 N3 -0", "N1-0 N2-0 N2-1", None],
                "t": [100, 90, 100, 80],
            }
        )
        rows, counts, rule = clean(raw, **LISTS)
        assert rows == [("U2", "N-0", 1.0, 90, 1), ("U1", "N1", 1.0, 100, 1), ("U1", "N2", 1.0, 100, 1)]
        assert counts["raw interactions"] == 9
        assert counts["missing user or item id"] == 2  # no list, and a mark without an item
        assert counts["missing mark of a click"] == 1
        assert counts["repeated (user, item, timestamp)"] == 3
        assert rule == "label 1: clicked; 100.0% of the impressions kept"

    @pytest.mark.parametrize("table", [pl.DataFrame, pd.DataFrame])
    def test_columns_of_lists(self, table: Any) -> None:
        raw = table({"u": [1, 2], "i": [["a+", "b-"], []], "t": [100, 100]})
        marks = {"impressions": {"separator": None, "clicked": "+", "not_clicked": "-"}}
        rows, counts, _ = clean(raw, **marks)
        assert rows == [(1, "a", 1.0, 100, 1), (1, "b", None, 100, 0)]
        assert counts["missing user or item id"] == 1

    rows = st.lists(
        st.tuples(
            st.sampled_from([1, 2, None]),
            st.lists(st.sampled_from(["a-1", "a-0", "b-1", "b-0", "c", "-1"]), max_size=4),
            st.sampled_from([0, 50, 51, None]),
            st.lists(st.sampled_from(["a", "b", "x"]), max_size=60),
        ),
        max_size=8,
    )

    @settings(deadline=None)
    @given(rows, st.integers(0, 2), st.randoms(use_true_random=False))
    def test_rows_add_up(self, rows: list[tuple], k: int, random: Any) -> None:
        rows = [*rows, *((user, [f"{item}-1" for item in "ab"], 60, []) for user in (1, 2))]
        schema = {"u": pl.Int64, "i": pl.List(pl.String), "t": pl.Int64, "h": pl.List(pl.String)}
        raw = pl.DataFrame(rows, schema=schema, orient="row")
        marks = LISTS["impressions"] | {"separator": None}
        rules = config(k, impressions=marks, click_history={"column": "h", "separator": None})
        log, report = clean_interactions(raw, rules)
        Interactions.validate(log, lazy=True)
        of_rule = {}
        for row in report[:-1]:
            kind = row["rule"].split(",")[0].split(";")[0]
            of_rule[kind] = of_rule.get(kind, 0) + row["rows"]
        assert of_rule["rows in"] == of_rule["dropped"] + of_rule.get("off", 0) + log.height
        shown = {
            (user, item[:-2], time, item[-1] == "1")
            for user, items, time, _ in rows
            for item in items
            if user and time and len(item) > 2
        }
        clicks = {key[:3] for key in shown if key[3]}
        expected = {(*key, 1) for key in clicks} | {(*key[:3], 0) for key in shown if key[:3] not in clicks}
        if k < 2:
            kept = log.filter(pl.col("label").is_not_null()).select("user_id", "item_id", "timestamp", "label")
            assert set(kept.rows()) == expected


class TestClickHistory:
    raw = pl.DataFrame(
        {
            "u": ["U1", "U1", "U2", "U3"],
            "i": ["N1-1 N2-0", "N3-0", "N1-0", "N1-1"],
            "t": [100, 90, 50, 2],
            "h": ["N5 N6 N7", "N5 N5", None, "N5 N6"],
        }
    )
    history = LISTS | {"click_history": {"column": "h", "separator": " "}}

    def test_the_first_rows_list_lies_before_it_in_order_and_has_no_labels(self) -> None:
        rows, counts, rule = clean(self.raw, **self.history)
        assert rows == [
            ("U3", "N6", 1.0, 1, None),
            ("U3", "N1", 1.0, 2, 1),
            ("U2", "N1", None, 50, 0),
            ("U1", "N5", 1.0, 88, None),
            ("U1", "N5", 1.0, 89, None),
            ("U1", "N3", None, 90, 0),
            ("U1", "N1", 1.0, 100, 1),
            ("U1", "N2", None, 100, 0),
        ]
        assert counts["events of starting histories"] == 4
        assert counts["events of starting histories without id or time"] == 1
        assert rule == "label 1: clicked; 40.0% of the impressions kept"

    def test_ids_take_the_type_of_the_logs(self) -> None:
        raw = pl.DataFrame({"u": [1], "i": [7], "c": [1], "t": [100], "h": ["5 six 7 07"]})
        rows, counts, _ = clean(raw, clicked="c", click_history={"column": "h", "separator": " "})
        assert rows == [(1, 5, 1.0, 96, None), (1, 7, 1.0, 98, None), (1, 7, 1.0, 100, 1)]
        assert counts["events of starting histories without id or time"] == 2

    def test_before_a_log_of_likes(self) -> None:
        raw = pl.DataFrame({"u": [1], "i": [7], "t": [100], "h": [["5"]]})
        rows, _, _ = clean(raw, click_history={"column": "h", "separator": None})
        assert rows == [(1, 5, 1.0, 99, None), (1, 7, 1.0, 100, 1)]


@pytest.mark.parametrize(
    ("column", "columns", "refusal"),
    [
        (
            {"c": ["maybe"]},
            {"clicked": "c"},
            "'c' of raw_interactions .*'maybe'.*true and false, or yes and no.*`ingestion.interactions.clicked`",
        ),
        (
            {"i": ["N1 N2"]},
            LISTS,
            r"missing mark of a click: 2\).*`ingestion.interactions.impressions` and `ingestion.k_core`",
        ),
        (
            {"i": ["N1-1"]},
            {"impressions": LISTS["impressions"] | {"separator": None}},
            "'i' of raw_interactions .* lists of texts, or text with a `separator`.*interactions.item_id`",
        ),
        (
            {"i": ["N1-1"]},
            TestClickHistory.history,
            "no column 'h'.*`ingestion.interactions.click_history.column`",
        ),
    ],
    ids=["words for clicks", "lists without marks", "no list", "no column of earlier clicks"],
)
def test_columns_that_do_not_fit_are_refused(column: Any, columns: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        clean(pl.DataFrame({"u": [1], "i": [7], "t": [100]} | column), **columns)
