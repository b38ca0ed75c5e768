"""What tells whether a raw entry is still the same."""

import sqlite3

import pandas as pd
import polars as pl
import pytest

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.entry_digests import digest_of_entry, place_of_entry


def put(file, text):
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(text)


FILES = {  # what is changed, and entries that read it
    "log[1].csv": {"filepath": "{}/log[1].csv"},
    "log.csv": {"filepath": "file://{}/log.csv"},
    "parts/b/log.csv": {"filepath": "{}/parts/*/log.csv"},
    "folder/link/log.csv": {"filepath": "{}/folder"},
    "cached.csv": {"type": "CachedDataset", "dataset": {"type": "pandas.CSVDataset", "filepath": "{}/cached.csv"}},
    "codes.json": {"filepath": "{}/log.csv", "load_args": {"converters": {"files": ["{}/codes.json"]}}},
    "llm/weights": {"source": "llm"},
    "names.txt": {"filepath": "{}/log.csv", "load_args": {"names": "names.txt"}},
    "tables/names.txt": {"filepath": "{}/log.csv", "load_args": {"folders": ["{}/tables"]}},
}


def at(value, folder):
    if isinstance(value, dict):
        return {key: at(item, folder) for key, item in value.items()}
    return [at(item, folder) for item in value] if isinstance(value, list) else value.format(folder)


@pytest.mark.parametrize("name", FILES)
def test_another_content_is_another_digest(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "elsewhere/log.csv", "1")
    put(tmp_path / "folder/other", "1")
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    for other in FILES:
        put(tmp_path / other, "1")
    entry = {"type": "pandas.CSVDataset"} | at(FILES[name], tmp_path)
    before = digest_of_entry(entry)
    assert digest_of_entry(entry) == before
    put(tmp_path / name, "2")
    assert digest_of_entry(entry) != before
    put(tmp_path / name, "1")
    assert digest_of_entry(entry) == before


def test_the_same_content_elsewhere_is_the_same(tmp_path):
    for name in ("a/log.csv", "b/log.csv"):
        put(tmp_path / name, "1")
    assert digest_of_entry({"filepath": f"{tmp_path}/a/log.csv"}) == digest_of_entry(
        {"filepath": f"{tmp_path}/b/log.csv"}
    )


def test_a_separator_is_no_folder():
    entry = {"filepath": "nowhere.csv", "load_args": {"sep": "/", "comment": "//", "thousands": "."}}
    assert digest_of_entry(entry) != digest_of_entry(entry | {"load_args": {"sep": "\\"}})


DATABASE = {"con": "sqlite:///{}/log.db"}
TABLE = {"type": "pandas.SQLTableDataset", "table_name": "log", "credentials": DATABASE}
SQL = {
    "table": TABLE,
    "query": {"type": "pandas.SQLQueryDataset", "sql": "select * from log", "credentials": DATABASE},
    "file of a query": {"type": "pandas.SQLQueryDataset", "filepath": "log.sql", "credentials": DATABASE},
    "cached": {"type": "CachedDataset", "dataset": TABLE},
    "beside a file": {
        "type": "reclora_kedro.datasets.joined.JoinedTablesDataset",
        "tables": {
            "files": {"dataset": {"type": "pandas.CSVDataset", "filepath": "log.csv"}},
            "database": {"dataset": TABLE},
        },
        "ids": ["user_id"],
    },
}


@pytest.mark.parametrize("kind", SQL)
def test_a_table_of_a_database_is_known_by_its_rows(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "log.sql", "select * from log")
    database = sqlite3.connect(tmp_path / "log.db")
    database.execute("create table log (user_id integer, title text)")
    database.execute("insert into log values (1, 'Heat')")
    database.commit()
    put(tmp_path / "log.csv", "user_id,title\n7,Net")
    entry = at(SQL[kind], tmp_path)

    def now():
        return digest_of_entry(entry, lambda: AtomicCatalog.from_config({"raw": entry}).load("raw"))

    before = now()
    assert now() == before
    database.execute("update log set title = 'Ran'")
    database.commit()
    assert now() != before


@pytest.mark.parametrize("table", [pl.DataFrame, pl.LazyFrame, pd.DataFrame])
def test_tables_are_told_apart_by_columns_and_rows(table):
    tables = [{"a": [1, 2]}, {"a": [2, 1]}, {"b": [1, 2]}, {"a": [1.0, 2.0]}]
    assert len({digest_of_entry({"type": "any"}, lambda t=t: table(t)) for t in tables * 2}) == 4


@pytest.mark.parametrize("load", [object, lambda: pd.DataFrame({"items": [[1, 2], [3]]})])
def test_what_no_digest_tells_counts_as_changed_in_each_process(load):
    from kedro_provenance import entry_digests

    before = digest_of_entry({"type": "any"}, load)
    assert digest_of_entry({"type": "any"}, load) == before
    entry_digests.of_this_process.cache_clear()
    assert digest_of_entry({"type": "any"}, load) != before


@pytest.mark.parametrize(
    "entry",
    [
        {"source": "org/model"},
        {"base_url": "https://api.example.org/v1"},
        {"filepath": "https://example.org/log.csv"},
        {"type": "MemoryDataset", "data": [1]},
    ],
)
def test_what_is_known_by_its_address_is_not_loaded(entry):
    def load():
        raise AssertionError

    assert digest_of_entry(entry, load)


def test_a_place_is_the_same_wherever_the_project_lies(tmp_path, monkeypatch):
    places = set()
    for project in ("a", "b"):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        places.add(place_of_entry({"filepath": f"{tmp_path}/{project}/data/log.csv", "load_args": {"sep": project}}))
        monkeypatch.syspath_prepend(f"{tmp_path}/packages-{project}")
        places.add(place_of_entry({"filepath": f"{tmp_path}/packages-{project}/log/items.csv"}))
    assert places == {"data/log.csv", "log/items.csv"}
    assert place_of_entry({"dataset": {"filepath": "s3://bucket/log.csv"}}) == "s3://bucket/log.csv"
    assert place_of_entry({"table_name": "log"}) != place_of_entry({"table_name": "items"})
    assert place_of_entry({"source": "org/model"}) is place_of_entry({"base_url": "https://api.example.org/v1"}) is None


def test_no_file_of_a_folder_is_left_out_by_its_name(tmp_path):
    entry = {"type": "partitions.PartitionedDataset", "path": str(tmp_path), "dataset": "text.TextDataset"}
    digests = {digest_of_entry(entry)}
    for name in ("README.md", "LICENSE", "generation_config.json"):
        (tmp_path / name).write_text("something")
        digests.add(digest_of_entry(entry))
    assert len(digests) == 4
