"""``reclora`` and ``python -m reclora_kedro``: the project's commands, for an installed package."""

import logging
import os
import sys
from pathlib import Path

from kedro.utils import find_kedro_project


def main() -> None:
    """Run one of the project's commands, such as ``new-log``; without its name, pipelines, as ``kedro run`` does."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # where there is no project yet, there is no .telemetry that says so
    logging.disable(logging.INFO)  # outside of a project, Kedro's import says which logging configuration it reads
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    from reclora_kedro.cli import NO_PROJECT, cli

    logging.disable(logging.NOTSET)
    name = next(iter(sys.argv[1:]), "")
    is_run = not name or name == "run" or name.startswith("-")
    if is_run and not {"-h", "--help"} & {*sys.argv} and not is_project(Path.cwd()):
        sys.exit(f"{NO_PROJECT.format(folder=Path.cwd())}\nOr name a configuration behind --conf-source.")
    configure_project(__package__)
    if name in cli.commands:
        cli(prog_name="reclora")
    if name == "run":
        del sys.argv[1]
    find_run_command(__package__)()


def is_project(folder: Path) -> bool:
    """Whether pipelines have a configuration: that of the folder's project, or one that the command names."""
    named = any(argument.partition("=")[0] == "--conf-source" for argument in sys.argv)
    return named or (folder / "conf").is_dir() or find_kedro_project(folder) is not None


if __name__ == "__main__":
    main()
