"""Messages for users when a run is refused or fails, with the next command to type."""

import errno
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from traceback import walk_tb
from typing import IO

import click
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines
from kedro.io import DatasetError

from kedro_provenance.datasets import configuration, is_versioned, local_path, location
from kedro_provenance.errors import MismatchError, NameRefusedError
from kedro_provenance.files.atomic import is_full_disk
from kedro_provenance.kedro_internals import request_pipelines
from kedro_provenance.project import is_alias, project_packages
from kedro_provenance.run import Run

logger = logging.getLogger(__name__)

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system answers to a user who may not read or write a file."""
REFUSALS = (ValueError, OSError, RuntimeError, ImportError, ArithmeticError)
"""Errors with a message for people, where the project's own code raises them."""


class RunRefusedError(KedroCliError):
    """A run was refused before anything was written, or failed for the reason in its message."""

    def show(self, file: IO | None = None) -> None:
        """Print the message without a stack trace; `kedro run` calls this."""
        print(f"Error: {self.message}", file=file or sys.stderr)


def refuse_faults(heading: str, faults: Iterable[str], *advice: str) -> None:
    """Raise RunRefusedError with a line per fault, if there are any."""
    if lines := [f"- {fault}" for fault in dict.fromkeys(faults)]:
        raise RunRefusedError("\n".join([f"{heading} Nothing was written.", *lines, *advice]))


def explain_failure(error: Exception, run: Run) -> None:
    """Add notes to an error of a run on files and pipelines of entries, which the failed node does not know.

    If the message says what to do, raise RunRefusedError for `kedro run`; the stack trace goes to the log.
    """
    for note in (*notes_on_files(error, run), *next_steps(error, run)):
        error.add_note(note)
    if click.get_current_context(silent=True) and is_refusal(error):
        logger.debug("The run failed.", exc_info=error)
        raise RunRefusedError("\n".join([str(error), *getattr(error, "__notes__", [])])) from error


def is_refusal(error: Exception) -> bool:
    """Whether the project's own code, or a dataset, raised an error with a message for users."""
    if isinstance(error, DatasetError) or denied_file(error):
        return True
    return modules_of(error)[-1].partition(".")[0] in (*project_packages(), __package__) and isinstance(error, REFUSALS)


def denied_file(error: BaseException | None) -> str | None:
    """Return the file to which the system has denied access, whoever asked; None for another error."""
    return error.filename if isinstance(error, OSError) and error.errno in DENIED else None


def modules_of(error: Exception) -> list[str]:
    """Return the modules that an error passed through; the last one raised it."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return [str(frame.f_globals.get("__name__")) for frame in frames] or [""]


def notes_on_files(error: Exception, run: Run) -> Iterator[str]:
    """Yield the files of the entries that an error names, and what to do about unreadable ones."""
    message = str(error)
    for name in sorted(run.pipeline.inputs()):
        dataset = run.catalog.get(name)
        file = local_path(dataset)
        if file is None or is_versioned(dataset):
            continue
        # A lazy table fails in the node that collects it, with an error of its library that may name no file.
        kind, library = configuration(dataset)["type"], type(error).__module__.partition(".")[0]
        fails_late = "Lazy" in kind and library in kind.split(".")
        if fails_late or (isinstance(error, DatasetError) and str(file) in message):
            yield (
                f"The catalog entry {name} reads {location(dataset)}: correct the file, or the entry's type or "
                "load_args."
            )
        elif name in message and str(file) not in message and file.exists():
            yield f"The catalog entry {name} is the file {location(dataset)}."


def next_steps(error: Exception, run: Run) -> Iterator[str]:
    """Yield what to do about an error whose remedy is a command, and how to go on with what the run has finished."""
    if isinstance(error, MismatchError):
        yield from how_to_make(error.entries, "again", run.env)
    elif file := denied_file(error) or denied_file(error.__cause__):
        yield f"The user {os.getuid()} may not read or write {file}: change its permissions, or run as its owner."
    elif is_full_disk(error):
        yield (
            "Free some space, then go on with the --from-nodes named above, or with "
            f"{command('--only-missing-outputs', run.env)} if no earlier run left these outputs."
        )
    if run.seconds:
        yield (
            f"{len(run.seconds)} of its nodes had finished: {command('--only-missing-outputs', run.env)} keeps what "
            "they left where it fits. Without that, all are run again."
        )


def how_to_make(names: Iterable[str], when: str, env: str | None) -> Iterator[str]:
    """Yield the command that makes catalog entries ("first" or "again"); a name may lack the entry's namespace."""
    request_pipelines(None)  # all of them, to see which ones make the entries
    try:
        every = sorted(pipelines.items(), key=lambda each: -len(each[1].nodes))  # the smallest that makes one is named
    except NameRefusedError as error:  # of a step that the run has nothing to do with
        yield f"Which command makes them will be said here when this is right: {error}"
        return
    makers = {
        name: step
        for name in names
        for step, pipeline in every
        if step != "__default__" and not any(map(is_alias, pipeline.inputs()))  # which make new versions of old
        if any(f".{output}".endswith(f".{name}") for output in pipeline.all_outputs())
    }
    if makers:
        steps = ",".join(sorted(set(makers.values())))
        yield f"Make these {when} with {command(f'--pipelines {steps}', env)}: {', '.join(makers)}."


def command(options: str, env: str | None) -> str:
    """Return a command to type, for the environment of the run."""
    return f"`{' '.join(['kedro run', *([f'--env {env}'] if env else []), options]).rstrip()}`"
