"""Columns of raw tables in their canonical types."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pytest

from reclora_kedro.ingestion.raw_tables import RawColumns, as_polars


def raw(**columns: list) -> RawColumns:
    return RawColumns(as_polars(pl.DataFrame(columns), "raw_interactions"), "raw_interactions")


def seconds(values: list, time_format: str) -> list:
    return raw(time=values).seconds(["time"], "ingestion.t", time_format, "ingestion.f").to_list()


def test_pandas_gaps_become_nulls() -> None:
    frame = as_polars(pd.DataFrame({"user": [1.0, None], "title": ["a", None]}), "raw_users")
    assert frame.rows() == [(1.0, "a"), (None, None)]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (None, "raw_items holds nothing: a table is expected. Point the catalog entry raw_items"),
        ([{"id": 1}], "raw_items is of type list: a table"),
        (pd.DataFrame([[1, 2, 3]], columns=["id", "name", "id"]), "raw_items has the column 'id' twice"),
    ],
)
def test_what_is_no_table_is_refused(table: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        as_polars(table, "raw_items")


def test_values_to_drop_are_compared_as_what_they_are() -> None:
    assert raw(d=["a ", "b", None]).holds("d", ["a", 7], "p").to_list() == [True, False, False]
    assert raw(d=[0.5, 1.0]).holds("d", ["1"], "p").to_list() == [False, True]
    assert raw(d=[Decimal("0.5"), Decimal(1)]).holds("d", [0.5], "p").to_list() == [True, False]
    assert raw(d=[Decimal("2.0"), Decimal(1)]).holds("d", [0.5, 1], "p").to_list() == [False, True]  # a part of a log


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, None], [3, None]),
        ([3.0, float("nan")], [3, None]),
        (["0104257", " x ", ""], ["0104257", "x", None]),
        (pl.Series([3], dtype=pl.UInt16), [3]),
        (pl.Series(["b"], dtype=pl.Categorical), ["b"]),
    ],
)
def test_ids(values: list, expected: list) -> None:
    ids = raw(id=values).ids("id", "ingestion.p")
    assert ids.to_list() == expected
    assert ids.dtype in (pl.Int64, pl.String)


def test_numbers() -> None:
    assert raw(r=[1, None]).numbers("r", "p").to_list() == [1.0, None]
    assert raw(r=[True, False, None]).marks("r", "p").to_list() == [1.0, 0.0, None]
    assert raw(r=[0.5, float("nan")]).numbers("r", "p").to_list() == [0.5, None]
    assert raw(r=["4 ", "4.5", "", None]).numbers("r", "p").to_list() == [4.0, 4.5, None, None]
    assert raw(r=["Yes", "no", None, "TRUE", "0.0"]).marks("r", "p").to_list() == [1.0, 0.0, None, 1.0, 0.0]


def test_lists() -> None:
    assert raw(t=["a| b |", "", None]).lists("t", "p", "|").to_list() == [["a", "b"], None, None]
    values = [["a ", "", "b\nc"], [], None, [None]]
    assert raw(t=values).lists("t", "p", None).to_list() == [["a", "b c"], [], None, []]
    assert raw(t=[[1, 2]]).lists("t", "p", None).to_list() == [["1", "2"]]
    pairs = pl.Series([["a", "b"], None], dtype=pl.Array(pl.String, 2))
    assert raw(t=pairs).lists("t", "p", None).to_list() == [["a", "b"], None]


def test_flags() -> None:
    assert raw(f=[1, 0, None]).flags("f", "p").to_list() == [True, False, False]


def test_texts() -> None:
    assert raw(t=[" a ", "", None]).texts("t", "p").to_list() == ["a", None, None]
    assert raw(t=[24.0, float("nan")]).texts("t", "p").to_list() == ["24", None]
    assert raw(t=[0.5]).texts("t", "p").to_list() == ["0.5"]
    assert raw(t=[1e20]).texts("t", "p").to_list() == ["1e+20"]
    assert raw(t=[datetime(2001, 9, 9), None]).texts("t", "p").to_list() == ["2001-09-09", None]
    assert raw(t=["a\r\nb\u2028c", "\x00", "👩‍🚀"]).texts("t", "p").to_list() == ["a b c", None, "👩‍🚀"]


@pytest.mark.parametrize(
    ("values", "time_format", "expected"),
    [
        ([1_000_000_000, None], "unix_seconds", [1_000_000_000, None]),
        ([1_000_000_000.9, float("nan"), float("inf")], "unix_seconds", [1_000_000_000, None, None]),
        ([1_000_000_000_999], "unix_milliseconds", [1_000_000_000]),
        (["2001-09-09 01:46:40", None, ""], "%Y-%m-%d %H:%M:%S", [1_000_000_000, None, None]),
        (["2001-09-09 03:46:40+0200"], "%Y-%m-%d %H:%M:%S%z", [1_000_000_000]),
        (["Sat Sep 08 18:46:40 -0700 2001"], "%a %b %d %H:%M:%S %z %Y", [1_000_000_000]),
        (["2001-09-09 01:46:40+00", "2001-09-08 18:46:40-07"], "%Y-%m-%d %H:%M:%S%z", [1_000_000_000] * 2),
        (["2001-09-09 01:46:40 UTC", "2001-09-09 01:46:40 Z"], "%Y-%m-%d %H:%M:%S %z", [1_000_000_000] * 2),
        (["2001-09-09"], "%Y-%m-%d", [999_993_600]),
        ([20_010_909, None], "%Y%m%d", [999_993_600, None]),
        ([20_010_909.0, float("nan")], "%Y%m%d", [999_993_600, None]),
        (["1000000000.9", ""], "unix_seconds", [1_000_000_000, None]),
        (pl.Series(["2001-09-09"], dtype=pl.Categorical), "%Y-%m-%d", [999_993_600]),
        ([datetime(2001, 9, 9, 1, 46, 40)], "unix_seconds", [1_000_000_000]),
        ([date(2001, 9, 9)], "unix_seconds", [999_993_600]),
    ],
)
def test_seconds(values: list, time_format: str, expected: list) -> None:
    assert seconds(values, time_format) == expected


def read_seconds(time_format: str) -> Callable[[RawColumns], pl.Series]:
    return lambda table: table.seconds(["v"], "p", time_format, "f")


UNFIT_IDS = r"'v' of raw_interactions.*whole numbers or text.*`ingestion.p`"
UNFIT_LISTS = r"'v' of raw_interactions.*lists of texts, or text with a `separator`"
UNFIT_DROPS = r"Column 'v' of raw_interactions.*row 1 holds.*Change `p`"
REFUSED = [  # values of the column v, how they are read, and the message
    *(
        (values, lambda table: table.ids("v", "ingestion.p"), message)
        for values, message in [
            ([1.5, 2.0], UNFIT_IDS),
            ([float("inf")], UNFIT_IDS),
            ([True], UNFIT_IDS),
            ([date(2020, 1, 1)], UNFIT_IDS),
            ([2.0**53, None], r"row 1 holds 9007199254740992.*exact only as integers or text"),
            (pl.Series([2**63], dtype=pl.UInt64), r"signed 64-bit integers, or text where they are larger"),
        ]
    ),
    ([1], lambda table: table.ids("id", "p"), r"raw_interactions has no column 'id', only: v.*`p`"),
    ([None, "4.5", "good"], lambda table: table.numbers("v", "p"), r"'v' .* String \(row 3 holds 'good'\)"),
    ([True, False], lambda table: table.numbers("v", "p"), r"'v' .*is of type Boolean .*must hold numbers"),
    *((values, lambda table: table.lists("v", "p", None), UNFIT_LISTS) for values in (["a"], [[["a"]]], [1])),
    ([["a"]], lambda table: table.lists("v", "p", "|"), r"one of lists takes no `separator`"),
    (["yes"], lambda table: table.flags("v", "p"), "an indicator is 0 or 1"),
    ([0, 7], lambda table: table.flags("v", "p"), r"'v' .*row 2 holds 7.*an indicator is 0 or 1"),
    ([["a"]], lambda table: table.texts("v", "p"), r"List\(String\) \(row 1 holds \['a'\]\).*one value per row"),
    ([b"\xff"], lambda table: table.texts("v", "p"), r"Binary \(row 1 holds b'\\xff'\): it must hold texts"),
    (
        [1],
        lambda table: table.texts("kind", "ingestion.items.fields[genres]"),
        r"Set `ingestion.items.fields\[genres\]` .*`ingestion.items.fields: \[\]`",
    ),
    ([0, 1], lambda table: table.holds("v", [0.5], "p"), UNFIT_DROPS),
    (["True", "x"], lambda table: table.holds("v", [True], "p"), UNFIT_DROPS),
    ([["a"]], lambda table: table.holds("v", ["a"], "p"), UNFIT_DROPS),
    (["2001-09-09", "9/9/2001", None], read_seconds("%Y-%m-%d"), r"'v'.* 1 of 3 values .*'9/9/2001' in row 2\..*`f`"),
    (["2001-09-09"], read_seconds("unix_seconds"), r"cannot be read as 'unix_seconds'.*`f`"),
    ([1], read_seconds("%Y"), r"'v' .* 1 of 1 values that do not match the format '%Y'.*`f`"),
    ([True], read_seconds("%Y"), r"cannot be read as '%Y'.*`f`"),
]


@pytest.mark.parametrize(("values", "read", "message"), REFUSED)
def test_what_cannot_be_read_is_refused(values: Any, read: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(raw(v=values))
