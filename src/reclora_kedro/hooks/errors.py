"""Errors name files."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline


class ErrorHooks:
    """Adds to an error that names catalog entries which files those are."""

    @hook_impl
    def on_pipeline_error(self, error: Exception, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Name the files: the node that found the fault knows its data, but not where they lie."""
        message = str(error)
        for name in sorted(pipeline.inputs()):
            file = file_of(catalog.get(name)) if name in message else None
            if file is not None and str(file) not in message:
                error.add_note(f"The catalog entry {name} is the file {file}.")


def file_of(dataset: Any) -> Path | None:
    """The single local file that a dataset reads, if that is what it does."""
    description = dataset._describe() if dataset is not None else {}
    path = Path(str(description.get("filepath") or description.get("source") or ""))
    return path if path.is_file() else None
