"""Errors name files, and the line of one that cannot be read."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.interactions.broken_lines import UNREADABLE, find_broken_line

LONGEST_QUOTE = 200  # characters of a broken line that an error shows


class ErrorHooks:
    """Adds to an error which files the catalog entries are that it names, and which line of a file cannot be read."""

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Name the files: the node that found the fault knows its data, but not where they lie; and polars no lines."""
        message = str(error)
        for name in sorted(pipeline.inputs()):
            dataset = catalog.get(name)
            file = file_of(dataset)
            if file is not None and str(file) in message:
                self._name_line(error, name, file, dataset)
            elif file is not None and name in message:
                error.add_note(f"The catalog entry {name} is the file {file}.")

    def _name_line(self, error: Exception, name: str, file: Path, dataset: Any) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UNREADABLE):
            cause = cause.__cause__
        description = dataset._describe()
        if cause is None or description.get("file_format", "csv") != "csv":
            return
        with dataset._fs.open(str(file), compression="infer") as stream:
            line = find_broken_line(stream.read(), **description["load_args"])
        if line is not None:
            expected = f", where {', '.join(line.columns)} are expected" if line.columns else ""
            error.add_note(
                f"Line {line.number:,} of {file} cannot be read{expected}: {line.text[:LONGEST_QUOTE]!r}. "
                f"Correct it, or the load_args of the catalog entry {name}."
            )


def file_of(dataset: Any) -> Path | None:
    """The single local file that a dataset reads, if that is what it does."""
    description = dataset._describe() if dataset is not None else {}
    path = Path(str(description.get("filepath") or description.get("source") or ""))
    return path if path.is_file() else None
