"""``reclora`` and ``python -m reclora_kedro``: all commands in one group, for a project or an installed package."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from kedro.utils import find_kedro_project

HELP = """Turn a log of ratings, purchases or clicks into recommendations.

\b
reclora new-log orders.csv products.csv --name your-shop   # sets up an environment for your files
reclora recommend --env your-shop                          # writes ten items per user
reclora recommend 42 --env your-shop                       # shows those of user 42
reclora serve --env your-shop                              # serves recommendations over HTTP

The --help of a command has an example. Options without a command are those of run.
"""


def main() -> None:
    """Run one of the commands; without a name, pipelines, as ``kedro run`` does."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # where there is no project yet, there is no .telemetry that says so
    logging.disable(logging.INFO)  # outside of a project, Kedro's import says which logging configuration it reads
    import click
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    from kedro_provenance.commands import provenance
    from reclora_kedro.cli import NO_PROJECT, cli

    logging.disable(logging.NOTSET)
    name, asks_help = next(iter(sys.argv[1:]), ""), not {"-h", "--help"}.isdisjoint(sys.argv)
    is_bare_run = not name or (name.startswith("-") and not asks_help)
    if (is_bare_run or name == "run") and not asks_help and not is_project(Path.cwd()):
        sys.exit(f"{NO_PROJECT.format(folder=Path.cwd())}\nOr name a configuration with --conf-source.")
    configure_project(__package__)
    run: Any = find_run_command(__package__)
    if is_bare_run:
        run()
    commands: dict[str, click.Command] = {**cli.commands, "run": run, "provenance": provenance}
    click.Group("reclora", commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})()


def is_project(folder: Path) -> bool:
    """Whether pipelines have a configuration: that of the folder's project, or one that the command names."""
    named = any(argument.partition("=")[0] == "--conf-source" for argument in sys.argv)
    return named or (folder / "conf").is_dir() or find_kedro_project(folder) is not None


if __name__ == "__main__":
    main()
