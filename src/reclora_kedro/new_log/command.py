"""The command `kedro new-log`, which is `reclora new-log` outside of a project."""

import re
from collections.abc import Sequence
from pathlib import Path

import click
import yaml
from kedro.framework.project import LOGGING
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project


@click.command("new-log")
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="Name of the new environment.  [default: the name of the log's file]")
@click.option("--yes", "-y", is_flag=True, help="Accept all guesses without asking.")
def new_log(tables: tuple[Path, ...], name: str | None, yes: bool) -> None:
    """Write an environment for your own tables, guess what their columns mean, and try it.

    Outside a project, this creates one first.

    TABLES: a log of who rated, took or was shown what, and tables of its items and users, if any. Files are delimited
    text, lines of JSON, or parquet, gzipped or not.
    """
    # What takes long to import is imported when the command runs, not whenever Kedro lists its commands.
    from kedro_provenance.session import ResumingSession
    from reclora_kedro.hooks import typed_kedro
    from reclora_kedro.ingestion.guess import read_raw_tables
    from reclora_kedro.ingestion.guess_tables import guess
    from reclora_kedro.new_log import environment

    def ask(question: str, answers: Sequence[str], guessed: str) -> str:
        if yes:
            click.echo(f"{question.rstrip()}\nAnswered by the guess: {guessed}\n")
            return guessed
        choice = click.Choice(answers) if answers else None
        return str(click.prompt(question, type=choice, default=guessed, show_choices=True))

    if name is not None and not re.fullmatch(r"\w[\w-]*", name):
        raise click.BadParameter(f"{name!r} may contain only letters, digits, _ and -.", param_hint="--name")
    found = find_kedro_project(Path.cwd())
    project = found or Path.cwd()
    try:
        guessed = guess(read_raw_tables(tables), ask)
        folder = project / "conf" / (name or environment.environment_name(guessed))
        if folder.name in environment.OF_EVERY_PROJECT:
            raise click.UsageError(f"conf/{folder.name} belongs to every project: choose another --name.")
        if folder.exists():
            raise click.UsageError(f"conf/{folder.name} already exists: remove it, or choose another --name.")
        files = environment.environment_files(guessed, folder.name, project, environment.ask_of_no_goods(guessed, ask))
        if found is None:
            environment.write_project(project)
    except (ValueError, FileExistsError) as error:
        raise click.ClickException(f"{error} Nothing was written.") from error
    environment.write_environment(files, folder)
    if found is None:
        LOGGING.configure(yaml.safe_load((project / "conf/logging.yml").read_text(encoding="utf-8")))
        click.echo(f"{project} is now a project: conf/ has its settings, and data/ will have its results.")
    click.echo(f"conf/{folder.name} was written from these guesses; correct what is wrong there.\n")
    formatter = click.HelpFormatter(width=100)
    formatter.write_dl(environment.description(guessed))
    click.echo(formatter.getvalue())
    click.echo(f"Trying it: kedro run --env {folder.name} --pipelines ingestion\n")
    bootstrap_project(project)
    with ResumingSession.create(project, env=folder.name) as session:
        assert isinstance(session, ResumingSession)
        session.run(pipeline_names=["ingestion"])  # shows its counts
    click.echo(f"\nRecommend ten items to each user, with:\n  {typed_kedro()} recommend --env {folder.name}")
