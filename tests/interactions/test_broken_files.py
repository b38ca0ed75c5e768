"""Faults of raw files as a whole."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from reclora_kedro.interactions.broken_files import fault_of_file

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
