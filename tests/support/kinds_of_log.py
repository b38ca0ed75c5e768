"""A log of each kind with five rows per user, and what `conf/test` says to read it."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

FOLDER = "data/01_raw/kinds"
BEGIN = 1_000_000_000  # 2001-09-09T01:46:40Z
USERS, ROWS_PER_USER = 4, 5
ITEMS = [{"id": item, "name": f"Film {item}"} for item in range(8)]
RATINGS = [
    {
        "user": user,
        "item": user + place,
        "stars": (0.5, 4.5)[(user + place) % 2],
        "second": BEGIN + USERS * place + user,
        "time": f"2001-09-09T01:{46 + place}:{40 + user}Z",
    }
    for place in range(ROWS_PER_USER)
    for user in range(USERS)
]
IMPRESSIONS = [row | {"item": f"{row['item']}-1 {(row['item'] + 1) % 8}-0"} for row in RATINGS]
COLUMNS = {
    "user_id": "user",
    "item_id": "item",
    "rating": None,
    "timestamp": "second",
    "timestamp_format": "unix_seconds",
}
ALL_ROWS = {"few_shot": None, "validation": None, "test": None}
HISTORY = {
    "min_history": 1,
    "prompt_rows": ALL_ROWS,
    "split": {"train": 0.5, "validation": 0.25},
    "item_embedding": {"encoders": ["tfidf"], "components": 2},
}


def csv(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a delimited file; its catalog entry."""
    pl.DataFrame(rows).write_csv(path)
    return {"type": "polars.CSVDataset", "filepath": str(path)}


def json_lines(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write lines of JSON; their catalog entry."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"type": "polars.EagerPolarsDataset", "filepath": str(path), "file_format": "ndjson"}


def nested(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Pickle a pandas frame of a row per user, with lists; its catalog entry."""
    pl.DataFrame(rows).group_by("user", maintain_order=True).all().to_pandas().to_pickle(path)
    return {"type": "pickle.PickleDataset", "filepath": str(path)}


def sql_table(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a table of a database; its catalog entry."""
    with sqlite3.connect(path) as database:
        database.execute("create table log (user numeric, item numeric, time text)")
        database.executemany("insert into log values (:user, :item, :time)", rows)
    return {"type": "pandas.SQLTableDataset", "table_name": "log", "credentials": {"con": f"sqlite:///{path}"}}


@dataclass(frozen=True)
class KindOfLog:
    """A log and its configuration.

    Attributes:
        write: writes the log; returns its catalog entry.
        rows: of the log.
        columns: of `ingestion.interactions` that differ from `COLUMNS`.
        ingestion: other keys of the block.
        history: keys of the block `history`.
    """

    write: Callable[[Path, list[dict[str, Any]]], dict[str, Any]]
    rows: list[dict[str, Any]]
    columns: dict[str, Any] = field(default_factory=dict)
    ingestion: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)


SCALE = {"rating_min": 0.5, "rating_max": 5, "max_share_of_one_id": 1}
MARKS = {"separator": " ", "clicked": "-1", "not_clicked": "-0"}
ISO = {"timestamp": "time", "timestamp_format": "%Y-%m-%dT%H:%M:%S%z"}
NEGATIVES = {"negatives": {"kind": "uniform"}}
KINDS = {
    "ratings": KindOfLog(csv, RATINGS, {"rating": "stars"}, SCALE),
    "purchases": KindOfLog(csv, RATINGS, history=NEGATIVES),
    "impressions": KindOfLog(
        csv, IMPRESSIONS, {"impressions": MARKS}, history={"prompt_rows": ALL_ROWS | {"unit": "likes"}}
    ),
    "nested": KindOfLog(nested, RATINGS, {"explode": ["item", "stars", "second", "time"]}, history=NEGATIVES),
    "SQL": KindOfLog(sql_table, RATINGS, ISO, history=NEGATIVES),
    "NDJSON": KindOfLog(json_lines, RATINGS, ISO | {"rating": "stars", "drop": {"user": [3]}}, SCALE),
}


def configure(project: Path, kind: str) -> None:
    """Write the log of a kind into a project, and an environment `test` that reads it."""
    log, folder = KINDS[kind], project / FOLDER
    folder.mkdir(parents=True)
    entry = log.write(folder / "log", log.rows)
    items = [{**item, "id": str(item["id"])} for item in ITEMS] if kind == "impressions" else ITEMS
    catalog = {
        "raw_interactions": entry,
        "raw_items": json_lines(folder / "items.jsonl", items),
        "raw_users": {"type": "MemoryDataset", "data": None},
    }
    described = {"item_id": "id", "title": "name", "fields": []}
    ingestion = {"interactions": COLUMNS | log.columns, "items": described, "users": None} | log.ingestion
    parameters = {"ingestion": ingestion, "history": HISTORY | log.history}
    for name, content in {"catalog": catalog, "parameters": parameters}.items():
        (project / f"conf/test/{name}.yml").write_text(yaml.safe_dump(content))
