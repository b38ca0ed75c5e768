"""Raw tables of several data sets are one, and their ids stay apart."""

import polars as pl
import pytest
from kedro.io import AbstractDataset, DatasetError


def joined(folder, tables, **arguments):
    entries = {}
    for name, (table, options) in tables.items():
        path = folder / f"{name}.csv"
        table.write_csv(path)
        entries[name] = {"dataset": {"type": "pandas.CSVDataset", "filepath": str(path)}, **options}
    kind = "reclora_kedro.datasets.joined.JoinedTablesDataset"
    return AbstractDataset.from_config(
        "raw_interactions", {"type": kind, "tables": entries, "ids": ["user"], **arguments}
    )


def test_ids_stay_apart_and_scales_become_one(tmp_path):
    stars = pl.DataFrame({"user": [7, 8], "rating": [1, 5], "page": ["a", "b"]})
    tenths = pl.DataFrame({"user": ["7"], "rating": [9], "genre": ["War"]})
    table = joined(tmp_path, {"stars": (stars, {"multiply": {"rating": 2}}), "tenths": (tenths, {})}).load()
    assert table.rows(named=True) == [
        {"user": "stars-7", "rating": 2.0, "page": "a", "domain": "stars", "genre": None},
        {"user": "stars-8", "rating": 10.0, "page": "b", "domain": "stars", "genre": None},
        {"user": "tenths-7", "rating": 9.0, "page": None, "domain": "tenths", "genre": "War"},
    ]


def test_what_does_not_fit_is_refused(tmp_path):
    table = pl.DataFrame({"user": [7], "domain": ["x"]})
    with pytest.raises(DatasetError, match="The table one has a column 'domain' already"):
        joined(tmp_path, {"one": (table, {})}).load()
    with pytest.raises(DatasetError, match="one has no column 'user', only: who"):
        joined(tmp_path, {"one": (table.rename({"user": "who"}), {})}, column="of").load()


def keyed(folder, rows, columns):
    entries = dict[str, object]()
    for name, table in (("rows", rows), ("columns", columns)):
        table.write_parquet(folder / f"{name}.parquet")
        entries[name] = {
            "type": "polars.EagerPolarsDataset",
            "filepath": str(folder / f"{name}.parquet"),
            "file_format": "parquet",
        }
    kind = "reclora_kedro.datasets.joined.KeyedTablesDataset"
    return AbstractDataset.from_config("raw_interactions", {"type": kind, "key": "order", **entries})


def test_rows_get_the_columns_of_their_key(tmp_path):
    lines = pl.DataFrame({"order": [2, 1, 2, None, 3], "item": ["a", "b", "c", "d", "e"]})
    orders = pl.DataFrame({"order": [1.0, 2.0, None], "user": ["x", "y", "z"], "item": "of orders"})
    assert keyed(tmp_path, lines, orders).load().rows() == [
        (2, "a", "y"),
        (1, "b", "x"),
        (2, "c", "y"),
        (None, "d", None),
        (3, "e", None),
    ]
    with pytest.raises(DatasetError, match="but 2 is in several: exchange rows and columns"):
        keyed(tmp_path, orders, lines).load()
    with pytest.raises(DatasetError, match="'order' is Int64 in rows and String in columns"):
        keyed(tmp_path, lines, orders.with_columns(pl.col("order").cast(pl.String))).load()
