"""The project's changes to Kedro's commands."""

from importlib import import_module

import click
from kedro.framework.cli.registry import registry as kedro_registry
from kedro.framework.project import pipelines


@click.command("list")
def list_pipelines() -> None:
    """List the registered pipelines, each with what it is for."""
    lines = [("__default__", "The whole flow from raw files to the report; `kedro run` runs it.")]
    for name in sorted(set(pipelines) - {"__default__"}):
        text = import_module(f"reclora_kedro.pipelines.{name}").__doc__ or ""
        lines.append((name, text.partition("\n")[0]))
    formatter = click.HelpFormatter(width=120)
    formatter.write_dl(lines)
    click.echo(formatter.getvalue(), nl=False)


registry = click.Group("registry", {**kedro_registry.commands, "list": list_pipelines}, help=kedro_registry.help)
cli = click.Group("kedro", {"registry": registry})
