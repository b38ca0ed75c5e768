"""What a user needs to know of an error, and the command to type next."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from reclora_kedro.errors import MismatchError
from reclora_kedro.files.atomic import is_full_disk
from reclora_kedro.interactions.broken_files import fault_of_file
from reclora_kedro.interactions.broken_lines import UNREADABLE, find_broken_line
from reclora_kedro.runs.catalog import configuration, local_path, location

LONGEST_QUOTE = 200  # characters of a broken line that an error shows


class ErrorHooks:
    """Adds to an error the files of the catalog entries that it names, a line that cannot be read, and what to do."""

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Add notes: the node that failed knows its data, but neither their files nor the pipelines that make them."""
        for note in (*notes_on_files(error, pipeline, catalog), *next_steps(error, run_params["env"])):
            error.add_note(note)


def notes_on_files(error: Exception, pipeline: Pipeline, catalog: DataCatalog) -> Iterator[str]:
    """Which files the inputs are that an error names, and which line of them cannot be read."""
    message = str(error)
    for name in sorted(pipeline.inputs()):
        file, config = local_path(catalog.get(name)), configuration(catalog.get(name))
        if file is None or not file.exists() or (str(file) not in message and name not in message):
            continue
        if str(file) not in message:
            yield f"The catalog entry {name} is the file {location(catalog.get(name))}."
        # Where nothing failed while it was loaded, a folder is one of files, as it should be.
        if (isinstance(error, DatasetError) or file.is_file()) and (fault := fault_of_file(file, is_utf_8(config))):
            yield fault
        elif str(file) in message and (broken := broken_line(error, file, config)):
            yield f"{broken} Correct it, or the load_args of the catalog entry {name}."


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


def next_steps(error: Exception, env: str | None) -> Iterator[str]:
    """What to do about an error whose remedy is a command."""
    if isinstance(error, MismatchError):
        yield from how_to_make(error.entries, "again", env)
    elif is_full_disk(error):
        yield (
            "Free some space, then go on with the --from-nodes named above, or with "
            f"{command('--only-missing-outputs', env)} if no earlier run left these outputs."
        )


def how_to_make(names: Iterable[str], when: str, env: str | None) -> Iterator[str]:
    """The command that makes catalog entries; a name may lack the entry's namespace.

    Args:
        names: the entries; those that no pipeline makes are passed over.
        when: "first" or "again".
        env: environment of the run.
    """
    pipelines.set_requested(None)  # all of them, to see which ones make the entries
    makers = {
        name: step
        for name in names
        for step, pipeline in pipelines.items()
        if step != "__default__" and any(f".{output}".endswith(f".{name}") for output in pipeline.all_outputs())
    }
    if makers:
        steps = ",".join(sorted(set(makers.values())))
        yield f"Make these {when} with {command(f'--pipelines {steps}', env)}: {', '.join(makers)}."


def command(options: str, env: str | None) -> str:
    """A command to type, for the environment of the run."""
    return f"`kedro run {f'--env {env} ' if env else ''}{options}`"
