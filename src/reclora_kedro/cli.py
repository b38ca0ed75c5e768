"""The project's changes to Kedro's commands, and commands of its own and of packages."""

import os
import re
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
import yaml
from kedro.framework.cli.project import run
from kedro.framework.cli.registry import registry as kedro_registry
from kedro.framework.cli.utils import env_option
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project
from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from kedro_provenance.errors import MismatchError
from kedro_provenance.parameters import soft_merge
from reclora_kedro.extensions import installed
from reclora_kedro.extras import missing_extra
from reclora_kedro.new_log.command import new_log
from reclora_kedro.pipelines.registry import PIPELINES

NO_PROJECT = """There is no project in {folder}. Change to a project, or create one for your log:
  reclora new-log orders.csv products.csv"""
RECOMMEND = {
    "recommend": "Print ten items with reasons for USERS or for a visitor. Without either, write all users' lists."
}
MORE_THAN_RUNS = {
    "study": "Run the cells of a grid or search and compare them. Settings: conf/base/parameters_study.yml.",
    "forget": "Erase USERS from tables, models and lists. Settings: conf/base/parameters_forget.yml.",
}
"""Commands of `reclora_kedro.commands`, by the name of the pipeline that each runs."""
EXAMPLES = {
    "run": "reclora run --env your-shop --pipelines ranking",
    "recommend": "reclora recommend 42 --env your-shop, or reclora recommend --item B7 --item B9 --env your-shop",
    "serve": "reclora serve --env your-shop --port 8080 --token-env RECLORA_TOKEN",
    "forget": "reclora forget 42 K17 --env your-shop",
    "study": "reclora study --params study.grid=objectives",
    "new-log": "reclora new-log orders.csv products.csv --name your-shop",
    "measure": "reclora measure lists.parquet --log orders.csv --items products.csv",
}
IDS = ("forget.users", "recommendation.users", "recommendation.exclude_items")
"""Parameters with lists of ids, which are read as they are typed: to YAML, 0042 is the number 34, and 1_000 is 1000."""


def with_ids_as_typed(parameters: DictConfig, typed: DictConfig) -> Any:
    """Return parameters with the ids of `typed`, the same ones with each value as the text that was typed."""
    for path in IDS:
        if isinstance(ids := OmegaConf.select(typed, path), ListConfig):
            OmegaConf.update(parameters, path, ids)
    return OmegaConf.to_container(parameters)


def split_params(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Parse ``--params`` as nested blocks; unlike Kedro's, lists may have several values, and nothing is named twice.

    Examples:
        >>> split_params(None, None, "lens.seed=7, history.encoders=[tfidf,co_occurrence], names={a: 1, b: 2}")
        {'lens': {'seed': 7}, 'history': {'encoders': ['tfidf', 'co_occurrence']}, 'names': {'a': 1, 'b': 2}}
        >>> split_params(None, None, "forget.users=[0042,1_000,'7'],lens.seed=0042")
        {'forget': {'users': ['0042', '1_000', '7']}, 'lens': {'seed': 34}}
    """
    if isinstance(value, tuple):  # of each time that the option is given
        if len(value) > 1:
            context.fail(
                f"--params is given {len(value)} times: give it once, with commas between values, such as a=1,b=2."
            )
        value = value[0] if value else ""
    if isinstance(value, dict):  # of the file behind --config
        return value
    texts, typed = dict[str, str](), OmegaConf.create()
    for item in filter(None, _items_of(value)):
        path, _, text = map(str.strip, item.partition("="))
        if not path or "=" not in item:
            context.fail(f"--params has {item!r}: expected a parameter's path and its value, such as lens.seed=7.")
        if path in texts:
            context.fail(f"--params names {path} several times: give each parameter once.")
        try:
            OmegaConf.update(typed, path, yaml.load(text, yaml.BaseLoader))
            texts[path] = f"{path}={text}"
            OmegaConf.from_dotlist([texts[path]])
        except YAMLError:
            quoted = f"to pass it as text, quote it: \"{path}='{text}'\"."
            context.fail(f"--params has {item!r}: the value is not valid YAML; {quoted}")
    return with_ids_as_typed(OmegaConf.from_dotlist([*texts.values()]), typed)


QUOTED = r"(?<=[=:,\s\[{])(?:'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\")"
"""A quoted value; an apostrophe within a word quotes nothing."""


def _items_of(text: str) -> list[str]:
    """Split a text at the commas that are neither in brackets nor in quotes.

    Examples:
        >>> _items_of("a={user: u, explode: [x, y]}, b=[1,[2,3]],c='x, y',d=Bull's eye")
        ['a={user: u, explode: [x, y]}', 'b=[1,[2,3]]', "c='x, y'", "d=Bull's eye"]
    """
    items, depth = [""], 0
    for part in re.findall(f"{QUOTED}|.", text, re.DOTALL):
        depth = max(0, depth + (part in ("[", "{")) - (part in ("]", "}")))
        if part == "," and not depth:
            items.append("")
        else:
            items[-1] += part
    return [item.strip() for item in items]


OF_RUN: dict[str | None, Any] = {option.name: option for option in run.params}
versions_of_kedro, names_of_kedro, config_of_kedro = (
    OF_RUN[name].callback for name in ("load_versions", "pipelines", "config")
)


def split_load_versions(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Parse ``--load-versions`` by entry as Kedro does, with an error for a value without a version."""
    for item in value.split(",") if isinstance(value, str) and value else []:
        if not re.fullmatch(r"[^:]+:[^:]+", item.strip()):
            expected = "expected an entry and its version, such as lens:2026-01-31T09.30.00.000Z."
            context.fail(f"--load-versions has {item!r}: {expected}")
    return versions_of_kedro(context, option, value)


def split_pipelines(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Return pipelines as Kedro does, with an error for those that are more than a run."""
    names = names_of_kedro(context, option, value) if option.name == "pipelines" else value
    for name in {*MORE_THAN_RUNS}.intersection([names] if isinstance(names, str) else names or []):
        own = f"type `kedro {name}` (see its --help)"
        context.fail(f"{option.opts[0]} names {name}, which does more than a run: {own}.")
    return names


def read_config(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Read the file behind ``--config`` as Kedro does, with an error for one that does not hold plain options.

    Options that name several things may have them as a list, such as `pipelines: [forget]`.
    """
    try:
        read = config_of_kedro(context, option, value)
        named = dict(context.default_map or {})
        for name, items in named.items():
            if name == "params":
                if isinstance(items, dict):
                    typed = yaml.load(Path(value).read_text("utf-8"), yaml.BaseLoader)[context.info_name][name]
                    items = with_ids_as_typed(OmegaConf.create(items), OmegaConf.create(typed))
                named[name] = [items]  # the option may be given several times
            elif isinstance(items, list):
                named[name] = ",".join(map(str, items))
        context.default_map = named
        return read
    except (YAMLError, OSError, KeyError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())
        expected = f"expected plain YAML without tags, with the command's options below `{context.info_name}:`"
        context.fail(f"--config cannot take {value} ({problem}): {expected}.")


OF_RUN["load_versions"].callback, OF_RUN["config"].callback = split_load_versions, read_config
OF_RUN["pipelines"].callback = OF_RUN["pipeline"].callback = split_pipelines
OF_RUN["params"].callback = split_params
OF_RUN["params"].multiple, OF_RUN["params"].default = True, ()  # so that a second one does not replace the first unseen


@click.command("list")
def list_pipelines() -> None:
    lines = [("__default__", "The whole flow from raw files to recommendations and the report; `kedro run` runs it.")]
    lines += [(name, PIPELINES.summary(name)) for name in PIPELINES.modules()]
    formatter = click.HelpFormatter(width=120)
    formatter.write_dl(lines)
    click.echo(formatter.getvalue(), nl=False)


def enter_project() -> Path:
    """Change to the project of this folder, from which relative addresses count, and return its folder."""
    path = find_kedro_project(Path.cwd())
    if path is None:
        raise click.ClickException(NO_PROJECT.format(folder=Path.cwd()))
    os.chdir(path)
    bootstrap_project(path)
    return path


@click.command("serve")
@env_option
@click.option("--host", help="Address to listen on.  [default: service.host]")
@click.option("--port", type=int, help="Port to listen on.  [default: service.port]")
@click.option(
    "--token-env", help="Environment variable whose token allows all requests.  [default: service.token_variable]"
)
@click.option("--params", type=click.UNPROCESSED, multiple=True, callback=split_params, help="As in kedro run.")
def serve(env: str | None, params: dict[str, Any], host: str | None, port: int | None, token_env: str | None) -> None:
    """Serve the current model over HTTP. Settings: conf/base/parameters_service.yml."""
    path = enter_project()  # first, as the imports take seconds
    given = {"host": host, "port": port, "token_variable": token_env}
    params = soft_merge(params, {"service": {name: value for name, value in given.items() if value is not None}})
    from reclora_kedro.pipelines.served_project import ServedProject
    from reclora_kedro.serving.app import create_app, create_server
    from reclora_kedro.serving.journal_tables import JournalError
    from reclora_kedro.serving.metrics import Metrics
    from reclora_kedro.serving.service import Service

    project = ServedProject(path, env, params)
    config = project.settings()
    if config.model == "llm" and (text := missing_extra("llm", "service.model, which is llm,")):
        raise click.ClickException(f"{text}, or serve without an LLM: --params service.model=lens.")
    tokens = project.tokens(config)
    try:
        service = Service(config, project.current_model, Metrics(), project.forgotten, project.withheld)
    except JournalError as error:
        raise click.ClickException(str(error)) from error
    app = create_app(service, tokens, project.chosen_by, project.roll_back)
    click.echo(f"Answers with {service.current_model.name} on http://{config.host}:{config.port}; Ctrl+C ends it.")
    server, llm = create_server(app, config), service.current_model.llm

    def end_if_failed(loading: Future[Any]) -> None:
        server.should_exit = server.should_exit or loading.exception() is not None

    if llm is not None:
        llm.add_done_callback(end_if_failed)
    with suppress(KeyboardInterrupt):  # which ends the server in order, and is then raised again
        server.run()
    if llm is not None and llm.done():
        try:
            llm.result()  # raises what ended the server, if the LLM could not be loaded
        except MismatchError as error:
            raise click.ClickException(
                f"{error} Give the --params that {config.variant} was trained with, train it again, or serve without "
                "an LLM: --params service.variant=null."
            ) from error


@click.command("measure")
@click.argument("lists")
@click.option("--log", required=True, help="Table of all interactions, including the test rows.")
@click.option("--items", help="Table of the items, with titles.")
@click.option("--split", default="last", show_default=True, help="Test rows: last, time, or a table of them.")
@click.option("--json", "file", help="File in which to save the tables as JSON.")
def measure(lists: str, log: str, items: str | None, split: str, file: str | None) -> None:
    """Measure and audit LISTS, a table of users, ranks and items by any recommender."""
    from reclora_kedro import referee

    try:
        measured = referee.measure(lists, log, items, split=split)
    except (ValueError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(measured)
    if file is not None:
        measured.save(file)


OPTIONS = [OF_RUN[name] for name in ("env", "config", "conf_source", "params", "only_missing_outputs")]


USERS = click.Argument(["users"], nargs=-1)
OF_RECOMMEND: tuple[click.Parameter, ...] = (
    click.Option(
        ["--item", "items"], multiple=True, help="Id of an item that a visitor took; may be given several times."
    ),
    click.Option(["-n"], type=click.IntRange(min=1), default=10, show_default=True, help="Items per user."),
    click.Option(["--model"], help="Folder that Recommender.save wrote.  [default: the project's newest run]"),
)
ARGUMENTS: dict[str, list[click.Parameter]] = {"forget": [USERS], "recommend": [USERS, *OF_RECOMMEND]}


def command_of(name: str) -> click.Command:
    """Return a command that calls a function of `reclora_kedro.commands`, with some options of `kedro run`."""

    def execute(params: dict[str, Any], config: str | None, users: tuple[str, ...] = (), **given: Any) -> None:
        path = Path.cwd() if given.get("model") else enter_project()
        if name == "recommend":
            given["users"] = users
        elif users:
            params = soft_merge(params, {name: {"users": [*users]}})
        resolve_name(f"reclora_kedro.commands:{name}")(path, runtime_params=params, **given)

    parameters = [*ARGUMENTS.get(name, []), *OPTIONS]
    return click.Command(name, params=parameters, callback=execute, help=(MORE_THAN_RUNS | RECOMMEND)[name])


registry = click.Group("registry", {**kedro_registry.commands, "list": list_pipelines}, help=kedro_registry.help)
own = {"registry": registry, "serve": serve, "new-log": new_log, "measure": measure}
own |= {name: command_of(name) for name in MORE_THAN_RUNS | RECOMMEND}
for name, example in EXAMPLES.items():
    {"run": run, **own}[name].epilog = f"Example: {example}"
others = {name: each for name, each in installed("reclora_kedro.commands").items() if name not in own}
cli = click.Group("kedro", {**own, **{name: resolve_name(command) for name, command in others.items()}})
