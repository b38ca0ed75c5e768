"""What is wrong with a raw file that an error is about."""

from pathlib import Path
from typing import Any

import fsspec
from kedro.io import DatasetError

from reclora_kedro.interactions.broken_files import fault_of_file
from reclora_kedro.interactions.broken_lines import UNREADABLE, find_broken_line

LONGEST_QUOTE = 200  # characters of a broken line that an error shows


def explain(error: Exception, name: str, file: Path, config: dict[str, Any]) -> str | None:
    """What is wrong with a raw file as a whole, or which line of it cannot be read; None where nothing tells.

    Args:
        error: of a run; its message names the file or the catalog entry.
        name: of the catalog entry.
        file: the file or folder.
        config: the configuration of the entry.
    """
    # Where nothing failed while it was loaded, a folder is one of files, as it should be.
    if (isinstance(error, DatasetError) or file.is_file()) and (fault := fault_of_file(file, is_utf_8(config))):
        return fault
    broken = broken_line(error, file, config) if str(file) in str(error) else None
    return f"{broken} Correct it, or the load_args of the catalog entry {name}." if broken else None


def is_utf_8(config: dict[str, Any]) -> bool:
    """Whether a dataset's configuration says that its file is text in UTF-8, which is what they say by default."""
    kind = config.get("file_format") or config.get("type", "").lower()
    return ("csv" in kind or "json" in kind) and "encoding" not in (config.get("load_args") or {})


def broken_line(error: BaseException | None, file: Path, config: dict[str, Any]) -> str | None:
    """The line of a delimited file that an error of polars is about: polars itself names none."""
    while error is not None and not isinstance(error, UNREADABLE):
        error = error.__cause__
    if error is None or not file.is_file() or config.get("file_format", "csv") != "csv":
        return None
    with fsspec.open(str(file), compression="infer") as stream:
        line = find_broken_line(stream.read(), **config.get("load_args") or {})
    if line is None:
        return None
    expected = f", where {', '.join(line.columns)} are expected" if line.columns else ""
    return f"Line {line.number:,} of {file} cannot be read{expected}: {line.text[:LONGEST_QUOTE]!r}."
