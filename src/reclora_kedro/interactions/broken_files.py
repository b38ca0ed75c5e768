"""Why a raw file as a whole, or a part of a table, cannot be read, where readers say little of it, or nothing."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kedro_provenance.files.paths import files_in

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def fault_of_file(file: Path, is_utf_8: bool) -> str | None:
    """What is wrong with a file (or folder) as a whole, and what to do; text in UTF-8 may be gzipped.

    Examples:
        >>> fault_of_file(Path(__file__), is_utf_8=True) is None
        True
        >>> fault_of_file(Path(__file__).parent, is_utf_8=True).partition(" ")[2]
        'is a folder, but a file is expected: name one of the files in it.'
    """
    if file.is_dir():
        return f"{file} is a folder, but a file is expected: name one of the files in it."
    content = file.read_bytes()
    if not content:
        return f"{file} is empty: copy or download it again."
    if content.startswith(b"PAR1") and not content.endswith(b"PAR1"):
        return f"{file} is no whole parquet file: copy or download it again."
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error):
            return f"{file} is no whole gzip file: copy or download it again."
    if is_utf_8 and content.startswith(UTF_16_MARKS):
        return (
            f"{file} is written in UTF-16, but UTF-8 is expected: convert it, or set `encoding: utf-16` in the "
            "load_args of its catalog entry, of a dataset of pandas."
        )
    return _no_utf_8(file, content) if is_utf_8 else None


def parts_at(paths: Sequence[Path]) -> list[Path]:
    """The files of a table that is read from folders and files."""
    return [part for path in paths for part in (files_in(path) if path.is_dir() else [path])]


def empty_part(parts: Sequence[Path]) -> str | None:
    """What is wrong with the first part of a parquet table that has no content, which polars would pass over."""
    for part in parts:
        if not part.stat().st_size and not part.name.startswith(("_", ".")):  # Spark and Hadoop leave _SUCCESS
            return f"{part} is empty: copy or download this part again."
    return None


def fault_of_part(parts: Sequence[Path]) -> str | None:
    """What is wrong with the first part of a parquet table that does not fit those before it, and what to do."""
    first: Path | None = None
    expected: dict[str, pl.DataType] = {}
    for part in parts:
        if part.name.startswith(("_", ".")):
            if part.stat().st_size:
                return (
                    f"{part} is no part of the table: remove it, or name the parts alone in the filepath of the entry, "
                    f"such as {part.parent}/*.parquet."
                )
            continue
        try:
            schema = dict(pl.read_parquet_schema(part))
        except pl.exceptions.PolarsError:
            return f"{part} is no whole parquet file: copy or download this part again."
        first, expected = first or part, expected or schema
        for name in expected | schema:
            actual, wanted = schema.get(name), expected.get(name)
            if actual is None or wanted is None:
                lacking, other = (part, first) if actual is None else (first, part)
                return f"{lacking} has no column {name!r}, but {other} has: write the parts with the same columns."
            if actual != wanted:
                return (
                    f"Column {name!r} is of type {actual} in {part}, but {wanted} in {first}: write both with one type."
                )
    return None


def _no_utf_8(file: Path, content: bytes) -> str | None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        line = content.splitlines()[number - 1].decode("latin-1")
        return (
            f"{file} is not written in UTF-8, as line {number:,} shows, which is {line[:80]!r} in latin-1: convert it, "
            "or set the encoding, such as `encoding: latin-1`, in the load_args of its catalog entry."
        )
    return None
