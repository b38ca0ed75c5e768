"""What is wrong with a raw file that an error is about, or that would be read in part."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline

from kedro_provenance.files.paths import paths_at
from reclora_kedro.interactions.broken_files import empty_part, fault_of_file, fault_of_part, parts_at
from reclora_kedro.interactions.broken_lines import (
    LONGEST_QUOTE,
    UNREADABLE,
    find_broken_json,
    find_broken_line,
    find_broken_value,
)


def explain(error: Exception, name: str, file: Path, config: dict[str, Any]) -> str | None:
    """What is wrong with a raw file as a whole, or with a line or a part of it; None where nothing tells.

    Args:
        error: of a run.
        name: of a catalog entry that the run reads.
        file: its file or folder, or a pattern of files.
        config: the configuration of the entry.
    """
    is_named = str(file) in str(error) or name in str(error)
    if is_parquet(config) and not file.is_file():
        fault = fault_of_part(parts_at(paths_at(str(file)))) if is_named or of_polars(error) else None
        return f"The parts of {name} do not fit together. {fault}" if fault else None
    if not is_named or not file.exists():
        return None
    # Where nothing failed while it was loaded, a folder is one of files, as it should be.
    if (isinstance(error, DatasetError) or file.is_file()) and (fault := fault_of_file(file, is_utf_8(config))):
        return fault
    broken = broken_line(error, file, config) if str(file) in str(error) else None
    return f"{broken} Correct it, or the load_args of the catalog entry {name}." if broken else None


def raw_file_checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Functions that raise an error where a raw table would be read in part."""
    for name in sorted(name for name in pipeline.inputs() if not is_parameter(name)):
        yield partial(require_whole_parts, name, catalog.config_resolver.resolve_pattern(name))


def require_whole_parts(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a table in parquet files one of which is empty: polars would read the others alone.

    Args:
        name: of the catalog entry.
        config: its configuration.

    Raises:
        ValueError: names the entry and the part.
    """
    if (
        is_parquet(config)
        and not config.get("versioned")
        and (fault := empty_part(parts_at(paths_at(str(config["filepath"])))))
    ):
        raise ValueError(f"{name}: {fault}")


def is_parquet(config: Mapping[str, Any]) -> bool:
    """Whether an entry is read from parquet files."""
    kind = str(config.get("file_format") or config.get("type")).lower()
    return "parquet" in kind and "filepath" in config


def of_polars(error: BaseException | None) -> bool:
    """Whether an error is one of polars, or came of one."""
    while error is not None and not isinstance(error, pl.exceptions.PolarsError):
        error = error.__cause__
    return error is not None


def is_utf_8(config: dict[str, Any]) -> bool:
    """Whether a dataset's configuration says that its file is text in UTF-8, which is what they say by default."""
    kind = config.get("file_format") or config.get("type", "").lower()
    return ("csv" in kind or "json" in kind) and "encoding" not in (config.get("load_args") or {})


def broken_line(error: BaseException | None, file: Path, config: dict[str, Any]) -> str | None:
    """The line of a file that its reader's error is about: readers name none, or no column."""
    load_args, kind = config.get("load_args") or {}, str(config.get("file_format") or config.get("type", "csv")).lower()
    if not file.is_file():
        return None
    if kind == "ndjson" or load_args.get("lines"):
        fault = find_broken_json(content_of(file))
        return fault and f"{file}: {fault}"
    if "pandas" in kind:
        fault = find_broken_value(str(file), load_args) if "csv" in kind and isinstance(error, DatasetError) else None
        return fault and f"{file}: {fault}"
    while error is not None and not isinstance(error, UNREADABLE):
        error = error.__cause__
    line = find_broken_line(content_of(file), **load_args) if error is not None and "csv" in kind else None
    if line is None:
        return None
    expected = f", where {', '.join(line.columns)} are expected" if line.columns else ""
    stray = (
        f" The quotation mark in line {line.stray_quote:,} is read as the start of a field" if line.stray_quote else ""
    )
    stray += ": where it is a character, set `quote_char: null` in load_args." if stray else ""
    return f"Line {line.number:,} of {file} cannot be read{expected}: {line.text[:LONGEST_QUOTE]!r}.{stray}"


def content_of(file: Path) -> bytes:
    """The content of a file that may be compressed."""
    with fsspec.open(str(file), compression="infer") as stream:
        return stream.read()
