"""Faults of raw files as a whole."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from reclora_kedro.interactions.broken_files import empty_part, fault_of_file, fault_of_part, parts_at

TEXT = "title\nAm\u00e9lie\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (TEXT.encode(), None),
        (gzip.compress(TEXT.encode()), None),
        (b"", "is empty"),
        (gzip.compress(TEXT.encode())[:-6], "is no whole gzip file"),
        (b"PAR1 and so on", "is no whole parquet file"),
        (TEXT.encode("utf-16"), "is written in UTF-16"),
        (gzip.compress(TEXT.encode("utf-16")), "is written in UTF-16"),
        (TEXT.encode("latin-1"), "is not written in UTF-8, as line 2 shows, which is 'Am\u00e9lie' in latin-1"),
    ],
    ids=["UTF-8", "gzip", "empty", "cut gzip", "no parquet", "UTF-16", "gzip of UTF-16", "latin-1"],
)
def test_a_fault_is_named_with_the_file(tmp_path: Path, content: bytes, fault: str | None) -> None:
    (tmp_path / "items.csv").write_bytes(content)
    said = fault_of_file(tmp_path / "items.csv", is_utf_8=True)
    assert said is None if fault is None else str(said).startswith(f"{tmp_path / 'items.csv'} {fault}")


@pytest.mark.parametrize("content", [TEXT.encode("utf-16"), TEXT.encode("latin-1")])
def test_a_file_of_another_encoding_may_be_meant(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "items.csv").write_bytes(content)
    assert fault_of_file(tmp_path / "items.csv", is_utf_8=False) is None


def test_a_whole_parquet_file_has_no_fault(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "items.parquet")
    assert fault_of_file(tmp_path / "items.parquet", is_utf_8=False) is None


PARTS = {  # what a second part of a table is, what is said of it
    "sound": (lambda part: TABLE.write_parquet(part), None),
    "empty": (lambda part: part.write_bytes(b""), "{part} is empty"),
    "a marker": (lambda part: part.with_name("_SUCCESS").write_bytes(b""), None),
    "a filled marker": (lambda part: part.with_name("_SUCCESS").write_bytes(b"x"), "_SUCCESS is no part of the table"),
    "text": (lambda part: part.write_text("id"), "{part} is no whole parquet file"),
    "a column less": (lambda part: TABLE.drop("x").write_parquet(part), "{part} has no column 'x', but {first} has"),
    "a column more": (
        lambda part: TABLE.with_columns(y=1).write_parquet(part),
        "{first} has no column 'y', but {part} has",
    ),
    "other types": (
        lambda part: TABLE.cast({"id": pl.String}).write_parquet(part),
        "Column 'id' is of type String in {part}, but Int64 in {first}",
    ),
}
TABLE = pl.DataFrame({"id": [1], "x": [0.5]})


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_does_not_fit_the_others_is_named(tmp_path: Path, name: str) -> None:
    make, fault = PARTS[name]
    first, part = tmp_path / "a/part-0.parquet", tmp_path / "b/part-1.parquet"
    for file in (first, part):
        file.parent.mkdir()
    TABLE.write_parquet(first)
    make(part)
    said = empty_part(parts_at([tmp_path])) or fault_of_part(parts_at([tmp_path]))
    assert said is None if fault is None else fault.format(part=part, first=first) in str(said)
