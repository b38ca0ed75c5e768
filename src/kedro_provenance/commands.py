"""The commands of ``kedro provenance``: what is out of date and why, what versions were made of, and their removal."""

import ast
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from inspect import getfile
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from kedro.framework import project
from kedro.framework.cli.utils import split_string
from kedro.framework.project import pipelines, settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io.core import generate_timestamp, is_parameter
from kedro.pipeline import Pipeline
from kedro.utils import find_kedro_project
from rich.console import Console

from codeprint.files import files_in
from kedro_provenance.archive import Archive, ArchivedVersion, bytes_freed, move_into_versions
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_versioned, local_path
from kedro_provenance.erasure import described, erase, find_results
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.atomic import atomic_file
from kedro_provenance.kedro_internals import catalog_of, request_pipelines
from kedro_provenance.lineage import LINEAGE, prune
from kedro_provenance.lock import lock_data
from kedro_provenance.plan import Step, differences, plan, reasons_to_run_always
from kedro_provenance.recipe import FILE as RECORD
from kedro_provenance.recipe import parse_version
from kedro_provenance.records import FOLDER
from kedro_provenance.run import Aliases, Run
from kedro_provenance.start import pin_versions, plan_table, require_catalog, require_datasets
from kedro_provenance.tracing import choose, known_entries, made_from, repetition_of, require_run, stored_results

env_option = click.option("--env", "-e", default=None, help="Environment of the configuration.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON as the last line, after Kedro's log.")
pipelines_option = click.option(
    "--pipelines",
    "names",
    default="",
    callback=split_string,
    help="Pipelines, separated by commas.  [default: __default__]",
)

CERTIFICATES = f"{FOLDER}/erased"  # in the data folder
SETTINGS = """

from kedro_provenance.plugin import AtomicCatalog, ProvenanceHooks, ResumingSession  # noqa: E402 - beside what it sets

DATA_CATALOG_CLASS = AtomicCatalog
SESSION_CLASS = ResumingSession
HOOKS = {hooks}
"""


@click.group(name="provenance")
def commands() -> None:
    """Commands of the plug-in, for Kedro."""


@commands.group(name="provenance")
def provenance() -> None:
    """Show what results were made of, and what is out of date."""


def command(example: str, *arguments: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """Register a function as the command of an example, with its own arguments and the options that all have."""

    def register(function: Callable[..., None]) -> click.Command:
        for argument in reversed([*arguments, env_option, json_option]):
            function = argument(function)
        return provenance.command(example.split()[0], epilog=f"Example: kedro provenance {example}")(function)

    return register


def echo(data: Any, lines: Iterable[str], as_json: bool) -> None:
    """Print the result of a command: its data as JSON, or its lines."""
    click.echo(json.dumps(data, default=str) if as_json else "\n".join(lines))


@contextmanager
def opened(env: str | None, names: Sequence[str] = (), kind: type[AtomicCatalog] | None = None) -> Iterator[Run]:
    """Open a project as a run does, without starting one; RunRefusedError outside of one."""
    if (folder := find_kedro_project(Path.cwd())) is None:
        raise RunRefusedError("This folder is not in a Kedro project. Change to one.")
    bootstrap_project(folder)
    logging.getLogger("kedro").setLevel(logging.WARNING)
    request_pipelines(names or None)
    with chdir(folder):
        context = KedroSession.create(folder, env=env).load_context()
        chosen = sum((pipelines[name] for name in names or ["__default__"]), start=Pipeline([]))
        params = {
            "run_id": generate_timestamp(),
            "env": env,
            "pipeline_names": [*names],
            "load_versions": None,
        }
        catalog: Any = catalog_of(context, kind or settings.DATA_CATALOG_CLASS)
        aliases = (hooks.aliases for hooks in settings.HOOKS if hasattr(hooks, "aliases"))
        run = Run(context, params, chosen, catalog, aliases=next(aliases, Aliases()))
        require_catalog(run)
        catalog.stores, catalog.records = run.stores, run.records
        require_datasets(run)
        pin_versions(run)
        with run.held:
            yield run


def as_data(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [{"node": step.node.name, "runs": bool(step.reasons), "reasons": [*step.reasons]} for step in steps]


@command("plan --pipelines training", pipelines_option)
def show_plan(names: Sequence[str], env: str | None, as_json: bool) -> None:
    """Show which nodes `kedro run --only-missing-outputs` would run at most, and why."""
    with opened(env, names) as run:
        steps = plan(run.pipeline, run.catalog)
    if as_json:
        click.echo(json.dumps(as_data(steps)))
    else:
        Console().print(plan_table(steps))


@command("viz --pipelines training", pipelines_option)
def show_in_viz(names: Sequence[str], env: str | None, as_json: bool) -> None:
    """Show what is out of date in the Workflow view of kedro-viz, until the next full run."""
    try:
        from kedro_viz.integrations.kedro.hooks_utils import EVENTS_DIR, EVENTS_FILE
    except ImportError as error:
        raise RunRefusedError("kedro-viz is not installed: `pip install kedro-viz`.") from error
    with opened(env, names) as run:
        steps = plan(run.pipeline, run.catalog)
        file = run.project / EVENTS_DIR / EVENTS_FILE
        atomic_file(file, json.dumps([*viz_events(steps, run.catalog)], indent=1).encode())
    outdated = [step.node.name for step in steps if step.reasons]
    said = f"{len(outdated)} of {len(steps)} nodes are out of date: `kedro viz run`, then Workflow, shows which."
    echo({"file": str(file), "out_of_date": outdated}, [said], as_json)


def viz_events(steps: Sequence[Step], catalog: AtomicCatalog) -> Iterator[dict[str, Any]]:
    """Yield the events that kedro-viz would write of a run whose nodes fail if they are out of date.

    Its Workflow view has no other status than success and failure; the reasons are shown as an error.
    """
    from kedro_viz.integrations.kedro.hooks_utils import hash_node

    def loaded_or_saved(name: str) -> dict[str, Any]:
        return {"dataset": name, "node_id": hash_node(name), "status": "success"}

    now = datetime.now(UTC).isoformat()
    yield {"event": "before_pipeline_run", "timestamp": now}
    made = {name for step in steps for name in step.node.outputs}
    for name in sorted({name for step in steps for name in step.node.inputs} - made):
        if not is_parameter(name) and catalog.exists(name):
            yield {"event": "after_dataset_loaded", **loaded_or_saved(name)}
    for step in steps:
        about = {"node": step.node.name, "node_id": hash_node(step.node)}
        if step.reasons:
            error = f"Out of date: {'; '.join(step.reasons)}"
            yield {"event": "on_node_error", **about, "error": error, "timestamp": now}
            for name in step.node.outputs:
                yield {"event": "on_pipeline_error", "dataset": name, **about, "error": error, "operation": "saving"}
            continue
        stored = {name: catalog.stored(name) for name in step.node.outputs}
        seconds = max((version.seconds for version in stored.values() if version), default=0.0)
        yield {"event": "after_node_run", **about, "duration": seconds, "status": "success"}
        for name, version in stored.items():
            files = files_in(version.folder) if version and version.folder else ()
            size = sum(file.stat().st_size for file in files if file.name != RECORD)
            yield {"event": "after_dataset_saved", **loaded_or_saved(name), "size": size}
    if outdated := sum(bool(step.reasons) for step in steps):
        error = f"{outdated} of {len(steps)} nodes are out of date"
        yield {"event": "on_pipeline_error", "error": error, "timestamp": now}
    else:
        yield {"event": "after_pipeline_run", "timestamp": now}


@command("why train_model", click.argument("node"), pipelines_option)
def why(node: str, names: Sequence[str], env: str | None, as_json: bool) -> None:
    """Explain why NODE is out of date, with the nodes before it that caused it."""
    with opened(env, names) as run:
        require_node(node, run)
        steps = plan(run.pipeline.to_nodes(node), run.catalog)
    output = [each for each in as_data(steps) if each["runs"] or each["node"] == node]
    lines = list[str]()
    for each in output:
        lines.append(f"{each['node']} {'runs' if each['runs'] else 'is up to date'}")
        lines += [f"  {reason}" for reason in each["reasons"]]
    echo(output, lines, as_json)


def require_node(node: str, run: Run) -> None:
    """Raise RunRefusedError for a node that is in none of the pipelines."""
    if node not in (existing := [each.name for each in run.pipeline.nodes]):
        raise RunRefusedError(f"{node} is not a node of these pipelines, which have {', '.join(existing)}.")


entry_argument = click.argument("entry")
yes_option = click.option("--yes", is_flag=True, help="Remove them; without this, they are only listed.")
version_option = click.option("--version", default=None, help="Version.  [default: the newest, or that of the file]")


@command("show model", entry_argument, version_option)
def show(entry: str, version: str | None, env: str | None, as_json: bool) -> None:
    """Show what the data of ENTRY, or one of its files, were made of."""
    folder = Path.cwd()
    with opened(env) as run:
        entry, version = choose(entry, folder, version, run.catalog)
        stored = run.catalog.stored(entry)
        if stored is None or stored.recipe is None:
            raise RunRefusedError(f"There is no record of {entry}{f' in {version}' if version else ''}.")
        output = stored.recorded() | {"version": stored.version, "is_intact": stored.is_intact}
        described = [each.described() for each in stored.lineage]
        output["lineage"] = [{name: value for name, value in each.items() if value} for each in described]
    recipe = stored.recipe
    lines = [
        f"{entry} {stored.version or '(no versions)'}",
        f"  by {recipe.node} in {stored.seconds:.1f} s, run {stored.run}, revision {stored.revision}",
        f"  its files {'are as they were saved' if output['is_intact'] else 'were changed'}",
        *(f"  parameters: {name} = {value}" for name, value in recipe.parameters.items()),
        *(f"  inputs: {name} = {value}" for name, value in recipe.inputs.items()),
        f"  code: {', '.join(recipe.parts) or recipe.code}",
        f"  made of: {', '.join(dict.fromkeys(each.entry for each in stored.lineage)) or 'nothing'}",
    ]
    echo(output, lines, as_json)


@command(
    "trace model --down",
    entry_argument,
    version_option,
    click.option("--down", is_flag=True, help="Show what was made of it instead."),
)
def trace(entry: str, version: str | None, down: bool, env: str | None, as_json: bool) -> None:
    """List all that ENTRY, or one of its files, was made of, the earliest first."""
    folder = Path.cwd()
    with opened(env) as run:
        entry, version = choose(entry, folder, version, run.catalog)
        stored = run.catalog.stored(entry)
        output = [each.described() for each in stored.lineage] if stored else []
        if down:
            output = [*made_from(entry, run.catalog)]
    if down:
        lines = [f"{each['entry']} {each['version']}  by {each['node']}" for each in output if each["is_of_these"]]
        earlier = [f"{each['entry']} {each['version']}".rstrip() for each in output if not each["is_of_these"]]
        lines += [f"of earlier data of {entry}: {', '.join(earlier)}"] if earlier else []
    else:
        made = (f"by {each['node']}, run {each['run']}" if each["node"] else each["place"] for each in output)
        lines = [f"{each['entry']}  {how}" for each, how in zip(output, made, strict=True)]
    nothing = f"Nothing is recorded that was made of {entry}." if down else f"{entry} is made of nothing recorded."
    echo(output, lines or [nothing], as_json)


@command("diff 2026-01-30T09.30.00.000Z 2026-01-31T09.30.00.000Z", click.argument("one"), click.argument("other"))
def diff(one: str, other: str, env: str | None, as_json: bool) -> None:
    """Explain how the results of two runs differ; ONE and OTHER are ids of runs, which are names of versions."""
    with opened(env) as run:
        versions = Archive(run.catalog).versions()
    existing = {run_id for each in versions if each.stored for run_id in (each.version, each.stored.run) if run_id}
    for run_id in (one, other):
        require_run(run_id, existing)
    output = {}
    for entry in sorted({each.entry for each in versions}):
        before, after = (newest_until(run_id, entry, versions) for run_id in (one, other))
        if after and before is None:
            output[entry] = [f"made in {after.version}"]
        elif before and after and before.stored and after.stored and before.content != after.content:
            recipes = before.stored.recipe, after.stored.recipe
            reasons = [*differences(recipes[0], recipes[1])] if recipes[0] and recipes[1] else []
            output[entry] = reasons or ["other content by the same recipe"]
    lines = [line for entry, reasons in output.items() for line in (entry, *(f"  {reason}" for reason in reasons))]
    echo(output, lines or ["Their results are equal."], as_json)


def newest_until(run_id: str, entry: str, versions: Sequence[ArchivedVersion]) -> ArchivedVersion | None:
    """Return the newest version of an entry when a run ended; None if there was none."""
    earlier = [each for each in versions if each.entry == entry and each.version and each.version <= run_id]
    return max(earlier, key=lambda each: str(each.version), default=None)


@command(
    "gc --keep 7 --yes",
    click.option("--keep", type=click.IntRange(min=1), required=True, help="Newest versions per entry to keep."),
    click.option("--cache", "of_cache", is_flag=True, help="Remove versions in the shared cache instead."),
    yes_option,
)
def collect_garbage(keep: int, of_cache: bool, yes: bool, env: str | None, as_json: bool) -> None:
    """Remove versions that are neither among the newest nor used by an alias."""
    with opened(env) as run:
        in_use = run.aliases.versions_in_use(run.catalog)
        caches = [store for store in run.stores if store.is_cache]
        if of_cache and any(store.is_read_only for store in caches):
            raise RunRefusedError("`cache_read_only` in globals.yml says that nothing is changed in the cache.")
        places = tuple(f"{store.address}/" for store in caches)
        listed = Archive(run.catalog, caches if of_cache else ()).versions()
        versions = [each for each in listed if each.version and (not of_cache or each.address.startswith(places))]
        versions.sort(key=lambda each: (each.entry, str(each.version)), reverse=True)
        removed = [
            each
            for entry, of_entry in groupby(versions, key=lambda each: each.entry)
            for each in [*of_entry][keep:]
            if (entry, each.version) not in in_use
        ]
        output, lines = remove(removed, in_use, yes, run)
    echo(output, lines, as_json)


@command("erase raw_orders --yes", entry_argument, version_option, yes_option)
def erase_results(entry: str, version: str | None, yes: bool, env: str | None, as_json: bool) -> None:
    """Erase the data of ENTRY, or of one of its files, and all that was made of them, and write a certificate.

    Of raw data, this is what was made of their earlier states: their owner edits or removes them before.
    """
    folder = Path.cwd()
    with opened(env) as run:
        removed = find_results(*choose(entry, folder, version, run.catalog), run)
        output, lines = remove(removed, run.aliases.versions_in_use(run.catalog), yes, run)
    echo(output, lines, as_json)


def remove(
    removed: Sequence[ArchivedVersion], in_use: Collection[tuple[str, str]], yes: bool, run: Run
) -> tuple[dict[str, Any], list[str]]:
    """Remove stored data if they are to be, and the lineage that no record names any more; return what to print."""
    freed = bytes_freed(removed)
    what = f"{len(removed)} versions, {sum(freed.values()):,} bytes"
    said = f"{what}, would go: add --yes to remove them."
    if yes:
        lock_data(run)
        said = f"{what}, are removed, see {erase(removed, in_use, run.data / CERTIFICATES, run)}."
        prune(run.data / FOLDER / LINEAGE, states_in_records(run))
    output = {"removed" if yes else "would_remove": [described(each) for each in removed], "bytes": freed}
    sizes = (f"{entry}: {size:,} bytes" for entry, size in freed.items())
    return output, [*(each.address for each in removed), *sizes, said]


def states_in_records(run: Run) -> set[str]:
    """Return the ids of the states that results were made of by their records, in the data folder or elsewhere."""
    stored = [each.stored for each in stored_results(run.catalog)]
    # A record may also be of another environment, whose catalog has other entries.
    files = [*run.data.rglob(f"*{RECORD}"), *(run.data / FOLDER).glob("*.json")]
    read = [parse_version(file.read_bytes(), file.parent.name, file.parent) for file in files]
    return {id for each in (*stored, *read) if each for id in each.parents}


@command("audit")
def show_audit(env: str | None, as_json: bool) -> None:
    """Show files that nodes opened in runs with `ProvenanceHooks(audit=True)` and that their recipes lack."""
    with opened(env) as run:
        noted = {node: files for node, files in sorted(run.records.audit.items()) if files}
    echo(noted, [f"{node}: {file}" for node, files in noted.items() for file in files] or ["None was noted."], as_json)


@command("force train_model", click.argument("node"), pipelines_option)
def force_node(node: str, names: Sequence[str], env: str | None, as_json: bool) -> None:
    """Make the next `kedro run --only-missing-outputs` run NODE, even if it is up to date."""
    with opened(env, names) as run:
        require_node(node, run)
        lock_data(run)
        run.records.force(run.records.forced | {node})
        output = sorted(run.records.forced)
    echo({"forced": output}, [f"The next run makes again: {', '.join(output)}."], as_json)


@command("rerun 2026-01-31T09.30.00.000Z", click.argument("run_id", metavar="RUN"), pipelines_option)
def rerun(run_id: str, names: Sequence[str], env: str | None, as_json: bool) -> None:
    """Reproduce the results of RUN with its parameters and inputs; refused if the code has changed since."""
    with opened(env, names) as run:
        past, folder = repetition_of(run_id, run), run.project
    with settings.SESSION_CLASS.create(folder, env=env, runtime_params=past.parameters) as session:
        session.run(pipeline_names=[*names] or None, node_names=past.nodes, load_versions=past.versions)
    with opened(env, names) as run:
        now = {name: run.catalog.stored(name) for name in past.contents}
    output = {name: bool(stored and stored.content == past.contents[name]) for name, stored in sorted(now.items())}
    lines = [f"{name} {'is as it was' if is_same else 'has other content'}" for name, is_same in output.items()]
    echo(output, lines, as_json)


@command("init")
def init(env: str | None, as_json: bool) -> None:
    """Add the plug-in to settings.py, name nodes that will always run, and move files of entries that got versions.

    May be repeated. Refused with a class of catalogs or sessions of the project's own in settings.py.
    """
    with opened(env, kind=AtomicCatalog) as run:
        file = Path(getfile(import_module(f"{project.PACKAGE_NAME}.settings")))
        text = file.read_text("utf-8")
        own = {name.id for each in ast.parse(text).body for name in ast.walk(each) if isinstance(name, ast.Name)}
        if (taken := sorted(own & {"DATA_CATALOG_CLASS", "SESSION_CLASS"})) and "ProvenanceHooks" not in own:
            raise RunRefusedError(f"{file} has {', '.join(taken)}. Nothing was written: the README says what to add.")
        always = {node.name: [*reasons_to_run_always(node, run.catalog)] for node in run.pipeline.nodes}
        lock_data(run)
        datasets = map(run.catalog.get, known_entries(run.catalog))
        paths = dict.fromkeys(path for each in datasets if is_versioned(each) and (path := local_path(each)))
        moved = dict[str, str]()
        try:
            moved.update((str(path), str(to)) for path in paths if (to := move_into_versions(path, run)))
        except OSError as error:
            said = f"Moved before: {moved}." if moved else "Nothing was moved."
            raise RunRefusedError(f"A file cannot be moved among versions of its entry: {error}. {said}") from error
        if "ProvenanceHooks" not in own:
            hooks = "(*HOOKS, ProvenanceHooks())" if "HOOKS" in own else "(ProvenanceHooks(),)"
            atomic_file(file, (text.rstrip("\n") + SETTINGS.format(hooks=hooks)).encode())
    lines = [f"{path} is {to} now." for path, to in moved.items()]
    lines += [f"{node} will always run: {'; '.join(reasons)}." for node, reasons in always.items() if reasons]
    said = f"{file} has the plug-in. `kedro run`, and from then on `kedro run --only-missing-outputs`."
    echo({"moved": moved, "always_run": always}, [*lines, said], as_json)
