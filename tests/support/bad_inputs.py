"""Raw data that ingestion must refuse: how to make each kind of fault, and what the refusal must say.

The table is for tests and for campaigns that run each entry through `kedro run`: `write_sound` lays out a small log
that runs, `BadInput.make` breaks it, and nothing may be written but the lock of the run.
"""

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ingestion_run import refusal

ROOT = Path(__file__).parents[2]
FOLDER = Path("data/01_raw/mine")  # of the raw files, in a project
LOG, ITEMS, USERS = (FOLDER / name for name in ("interactions.csv", "items.csv", "users.csv"))
NESTED = LOG.with_suffix(".jsonl")
LOG_COLUMNS = ("user_id", "movie_id", "rating", "timestamp")
PARAMETERS: dict[str, Any] = {
    "items": {"fields": [{"name": "genres", "column": "genres"}]},
    "users": {"user_id": "user_id", "fields": [{"name": "age", "column": "age"}]},
}


def pandas_csv(path: Path, **load_args: Any) -> dict[str, Any]:
    """A catalog entry that pandas reads."""
    return {"type": "pandas.CSVDataset", "filepath": str(path), "load_args": {"low_memory": False, **load_args}}


def polars_csv(path: Path, **load_args: Any) -> dict[str, Any]:
    """A catalog entry that polars reads."""
    return {"type": "polars.EagerPolarsDataset", "file_format": "csv", "filepath": str(path), "load_args": load_args}


def parquet(path: Path) -> dict[str, Any]:
    """A catalog entry of a parquet file."""
    return {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": str(path)}


def ndjson(path: Path) -> dict[str, Any]:
    """A catalog entry of lines of JSON that polars reads."""
    return {"type": "polars.EagerPolarsDataset", "file_format": "ndjson", "filepath": str(path)}


CATALOG = {"raw_interactions": pandas_csv(LOG), "raw_items": polars_csv(ITEMS), "raw_users": pandas_csv(USERS)}


def sound_log() -> list[list[Any]]:
    """Rows of a small log: 6 users, 8 items, likes and dislikes."""
    return [
        [user, item, 1 + (user * item) % 5, 1_000_000_000 + 100 * item + user] for user in range(6) for item in range(8)
    ]


def write_rows(path: Path, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    """A CSV file."""
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")


def write_sound(project: Path) -> None:
    """Raw files that ingestion takes, in a project."""
    (project / FOLDER).mkdir(parents=True)
    write_rows(project / LOG, LOG_COLUMNS, sound_log())
    write_rows(project / ITEMS, ("movie_id", "movie_title", "genres"), [[i, f"Film {i}", "Crime"] for i in range(8)])
    write_rows(project / USERS, ("user_id", "age"), [[user, 20 + user] for user in range(6)])


@dataclass(frozen=True)
class BadInput:
    """A fault of raw data.

    Attributes:
        name: what is wrong.
        make: breaks the raw files of a project in which `write_sound` was called.
        words: what the refusal must say.
        catalog: entries of the environment's catalog that differ.
        parameters: keys of the block `ingestion` that differ.
    """

    name: str
    make: Callable[[Path], Any]
    words: tuple[str, ...]
    catalog: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def rows_with(**values: Any) -> Callable[[Path], None]:
    """Write the log with these values in its 4th row."""

    def make(project: Path) -> None:
        rows = sound_log()
        rows[3] = [values.get(name, old) for name, old in zip(LOG_COLUMNS, rows[3], strict=True)]
        write_rows(project / LOG, LOG_COLUMNS, rows)

    return make


def all_rows_with(**values: Any) -> Callable[[Path], None]:
    """Write the log with these values in every row."""

    def make(project: Path) -> None:
        rows = [[values.get(name, old) for name, old in zip(LOG_COLUMNS, row, strict=True)] for row in sound_log()]
        write_rows(project / LOG, LOG_COLUMNS, rows)

    return make


def content(path: Path, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Change the content of a file."""
    return lambda project: (project / path).write_bytes(change((project / path).read_bytes()))


def header(old: str, new: str, path: Path = LOG) -> Callable[[Path], Any]:
    """Change a column's name."""
    return content(path, lambda text: text.replace(old.encode(), new.encode(), 1))


def folder_at(path: Path) -> Callable[[Path], None]:
    """Put a folder where a file is expected."""

    def make(project: Path) -> None:
        (project / path).unlink(missing_ok=True)
        (project / path).mkdir(parents=True)

    return make


def truncated_parquet(project: Path) -> None:
    """The log as a parquet file, of which half is there."""
    pl.read_csv(project / LOG).write_parquet(whole := project / LOG.with_suffix(".parquet"))
    whole.write_bytes(whole.read_bytes()[:-200])


def cut_json_line(project: Path) -> None:
    """Write the log as lines of JSON, the 4th of them cut short."""
    lines = [json.dumps(dict(zip(LOG_COLUMNS, row, strict=True))) for row in sound_log()]
    lines[3] = lines[3][:-5]
    (project / NESTED).write_text("\n".join(lines) + "\n", "utf-8")


def nested_log(project: Path) -> None:
    """A log of a row per user, with lists of items and times; the second user's differ in length."""
    users = [{"user_id": user, "movie_id": [0, 1], "timestamp": [1_000_000_000] * (2 - user % 2)} for user in range(6)]
    (project / NESTED).write_text("".join(json.dumps(user) + "\n" for user in users), "utf-8")


def in_latin_1(text: bytes) -> bytes:
    """The same file, with a title that is no UTF-8."""
    return text.replace(b"Film 2", "Amélie".encode("latin-1"))


POLARS_LOG = {"raw_interactions": polars_csv(LOG)}
GZIPPED = LOG.with_suffix(".csv.gz")

BAD_INPUTS = [
    BadInput(
        "header only, pandas",
        content(LOG, lambda text: text[: text.index(b"\n") + 1]),
        ("raw_interactions", "interactions.csv", "no row"),
    ),
    BadInput(
        "header only, polars",
        content(LOG, lambda text: text[: text.index(b"\n") + 1]),
        ("raw_interactions", "interactions.csv", "no row"),
        POLARS_LOG,
    ),
    BadInput(
        "header only, items",
        content(ITEMS, lambda text: text[: text.index(b"\n") + 1]),
        ("raw_items", "items.csv", "no row"),
    ),
    BadInput(
        "empty file, pandas",
        content(LOG, lambda _: b""),
        ("raw_interactions reads", "interactions.csv", "No columns to parse"),
    ),
    BadInput(
        "empty file, polars",
        content(LOG, lambda _: b""),
        ("raw_interactions reads", "interactions.csv", "empty CSV"),
        POLARS_LOG,
    ),
    BadInput(
        "truncated gzip",
        lambda project: (project / GZIPPED).write_bytes(gzip.compress((project / LOG).read_bytes())[:-60]),
        ("raw_interactions reads", "interactions.csv.gz", "ended before the end-of-stream marker"),
        {"raw_interactions": pandas_csv(GZIPPED)},
    ),
    BadInput(
        "truncated parquet",
        truncated_parquet,
        ("raw_interactions reads", "interactions.parquet", "File out of specification"),
        {"raw_interactions": parquet(LOG.with_suffix(".parquet"))},
    ),
    BadInput(
        "UTF-16, pandas",
        content(LOG, lambda text: text.decode().encode("utf-16")),
        ("raw_interactions reads", "interactions.csv", "'utf-8' codec can't decode byte 0xff"),
    ),
    BadInput(
        "UTF-16, polars",
        content(LOG, lambda text: text.decode().encode("utf-16")),
        ("raw_interactions has no column 'timestamp'", "interactions.csv"),
        POLARS_LOG,
    ),
    BadInput("latin-1, polars", content(ITEMS, in_latin_1), ("raw_items reads", "items.csv", "invalid utf-8 sequence")),
    BadInput("id beyond 64 bits", rows_with(user_id=2**64), ("user_id", "row 4", str(2**64), "64-bit")),
    BadInput(
        "id beyond 64 bits, polars", rows_with(user_id=2**70), ("user_id", "row 4", str(2**70), "64-bit"), POLARS_LOG
    ),
    BadInput("unsigned id beyond signed 64 bits", rows_with(user_id=2**63), ("user_id", "row 4", str(2**63), "64-bit")),
    BadInput("id with a fraction", rows_with(movie_id=3.5), ("movie_id", "row 4", "3.5", "whole numbers or text")),
    BadInput("id of 201 characters", rows_with(user_id="u" * 201), ("user_id", "row 4", "at most 200 characters")),
    BadInput(
        "an extra field in every row",
        content(LOG, lambda text: text.replace(b"\n", b",9\n").replace(b",9\n", b"\n", 1)),
        ("raw_interactions", "interactions.csv", "more fields than the 4 of the header"),
    ),
    BadInput(
        "an extra field in every row, polars",
        content(LOG, lambda text: text.replace(b"\n", b",9\n").replace(b",9\n", b"\n", 1)),
        ("raw_interactions reads", "interactions.csv", "more fields than defined"),
        POLARS_LOG,
    ),
    BadInput(
        "an extra field in a row",
        content(LOG, lambda text: text.replace(b",1000000101\n", b",1000000101,9\n")),
        ("interactions.csv", "line 11"),
    ),
    BadInput("the lock is a folder", folder_at(Path("data/.run.lock")), (".run.lock", "irectory")),
    BadInput(
        "a missing column",
        header("movie_id", "film"),
        ("raw_interactions", "'movie_id'", "user_id, film, rating", "ingestion.interactions.item_id"),
    ),
    BadInput(
        "no items' column",
        header("movie_title", "name", ITEMS),
        ("raw_items", "'movie_title'", "name", "ingestion.items.title"),
    ),
    BadInput(
        "the log is the items' file",
        lambda project: shutil.copy(project / ITEMS, project / LOG),
        ("raw_interactions has no column", "movie_title"),
    ),
    BadInput(
        "ratings of text",
        all_rows_with(rating="good"),
        ("rating", "row 1", "good", "numbers", "ingestion.interactions.rating"),
    ),
    BadInput(
        "a rating of text, pandas with types",
        rows_with(rating="good"),
        ("raw_interactions reads", "interactions.csv", "Unable to parse string 'good' at position 3"),
        {"raw_interactions": pandas_csv(LOG, dtype={"user_id": "Int64", "rating": "Float64"})},
    ),
    BadInput(
        "a quotation mark that joins lines, polars",
        content(ITEMS, lambda text: text.replace(b"Film 2", b'12" disc')),
        ("raw_items reads", "items.csv", "CSV malformed"),
    ),
    BadInput(
        "a line of JSON cut short, pandas",
        cut_json_line,
        ("raw_interactions reads", "interactions.jsonl", "position 334"),
        {"raw_interactions": {"type": "pandas.JSONDataset", "filepath": str(NESTED), "load_args": {"lines": True}}},
    ),
    BadInput("a rating of text", rows_with(rating="good"), ("rating", "row 4", "good", "numbers")),
    BadInput("the same column twice, pandas", header("movie_id", "user_id"), ("user_id", "twice")),
    BadInput("the same column twice, polars", header("movie_id", "user_id"), ("user_id", "twice"), POLARS_LOG),
    BadInput(
        "ratings outside of the scale",
        all_rows_with(rating=-3),
        ("48 of 48 rows have a rating outside 1 to 5", "'rating' of raw_interactions ranges from -3", "rating_min"),
    ),
    BadInput(
        "lists of different lengths",
        nested_log,
        ("'timestamp'", "row 2 holds", "as long as those of 'movie_id'", "ingestion.interactions.explode"),
        {"raw_interactions": ndjson(NESTED)},
        {"interactions": {"explode": ["movie_id", "timestamp"], "rating": None}},
    ),
    BadInput(
        "lists that are none",
        lambda _: None,
        ("'movie_id'", "row 1 holds 0", "must hold lists", "ingestion.interactions.explode"),
        parameters={"interactions": {"explode": ["movie_id"]}},
    ),
    BadInput(
        "a value to drop that is no number",
        lambda _: None,
        ("'rating'", "compared with 'none'", "ingestion.interactions.drop"),
        parameters={"interactions": {"drop": {"rating": ["none"]}}},
    ),
    BadInput(
        "a range of what is no number",
        all_rows_with(rating="good"),
        ("'rating'", "row 1 holds 'good'", "must hold numbers", "ingestion.interactions.drop"),
        parameters={"interactions": {"drop": {"rating": {"at_most": 0}}}},
    ),
    BadInput(
        "a folder instead of a file", folder_at(LOG), ("raw_interactions reads", "interactions.csv", "Is a directory")
    ),
    BadInput(
        "items of other ids",
        content(ITEMS, lambda text: text.replace(b"\n", b"\n9")[:-1]),
        ("raw_items has none of the log's item_ids", "ingestion.items.item_id"),
    ),
    BadInput(
        "users of other ids",
        content(USERS, lambda text: text.replace(b"\n", b"\n9")[:-1]),
        ("raw_users has none of the log's user_ids", "ingestion.users.user_id"),
    ),
    BadInput(
        "a time of text", rows_with(timestamp="yesterday"), ("timestamp", "row 4", "yesterday", "timestamp_format")
    ),
    BadInput("no user has an id", all_rows_with(user_id=""), ("missing user or item id: 48",)),
]


def lay_out(project: Path) -> Path:
    """The configuration of ingestion and sound raw files, in a folder."""
    (project / "conf/base").mkdir(parents=True)
    for file in ("catalog_ingestion.yml", "parameters_ingestion.yml", "parameters_engine.yml", "globals.yml"):
        shutil.copy(ROOT / "conf/base" / file, project / "conf/base")
    write_sound(project)
    return project


def ingest(project: Path, bad: BadInput | None = None) -> str | None:
    """Run ingestion on the raw files of a folder that was laid out; what is said if it is refused."""
    (project / "conf/mine").mkdir()
    catalog, parameters = CATALOG | dict(bad.catalog if bad else {}), PARAMETERS | dict(bad.parameters if bad else {})
    (project / "conf/mine/catalog.yml").write_text(json.dumps(catalog))
    (project / "conf/mine/parameters.yml").write_text(json.dumps({"ingestion": parameters}))
    with chdir(project):
        return refusal(project / "conf", "mine")


def written(project: Path) -> list[Path]:
    """What a run left but its lock."""
    return [path for path in project.glob("data/*") if path.name not in ("01_raw", ".run.lock")]
