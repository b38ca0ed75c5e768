"""The start of a run: refusals before anything is written, and preparations."""

import logging
import os
import re
from glob import has_magic
from itertools import chain
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DatasetError
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import cannot_tell, is_versioned, loaded_folder, loaded_version, local_path, location
from kedro_provenance.failures import RunRefusedError, command, how_to_make, refuse_faults
from kedro_provenance.files.package_files import absent_package
from kedro_provenance.files.storage import ADDRESSES, StorageError, is_remote, require_bucket, storage_options
from kedro_provenance.lock import lock_data
from kedro_provenance.manifest import manifest_entry
from kedro_provenance.plan import Step, foreign_origins, mixed_origins, plan
from kedro_provenance.project import entry_of, of_hooks
from kedro_provenance.run import Run
from kedro_provenance.runner import IncrementalRunner
from kedro_provenance.unfinished import CHOICES, take_over, was_killed

logger = logging.getLogger(__name__)


def start(run: Run) -> None:
    """Refuse a run that would fail or mix results, by RunRefusedError, and prepare any other.

    Nothing is written before `lock_data`; a dry run ends before it. Later steps hold the lock, so that no other run
    changes anything meanwhile.
    """
    require_runner(run)
    require_catalog(run)
    tell_unused_pipelines(run)
    run.catalog.stores, run.catalog.records = run.stores, run.records
    require_datasets(run)
    require_readable(run)
    require_storage(run)
    require_past_versions(run)
    pin_versions(run)
    show_plan(run)
    lock_data(run)
    choose_nodes(run)
    require_inputs(run)
    require_one_origin(run)
    try_checks(run)
    take_over(run)
    run.aliases.begin(run)


def require_runner(run: Run) -> None:
    """Raise RunRefusedError for a runner that makes a catalog of its own or, with `late_tags`, keeps no order."""
    text = run.params["runner"]  # all that Kedro gives hooks; None, without any, means its SequentialRunner
    kinds = ["SequentialRunner", *([] if of_hooks("late_tags") else ["ThreadRunner", "ProcessRunner"])]
    if text != str(None) and not any(f"{kind} object" in text for kind in kinds):
        runner = text.partition(" object at ")[0].rpartition(".")[2]
        raise RunRefusedError(
            f"This project does not run with {runner}. Nothing was written. Records of results and atomic saves need "
            "one process that calls the hooks and has the project's catalog, and the order of late_tags if it has any: "
            f"leave out --runner, or name {' or '.join(kinds[:2])}. ParallelRunner works in a project without "
            "late_tags with Kedro 1.3 or later whose settings.py has `SESSION_CLASS = ResumingSession`."
        )


def require_catalog(run: Run) -> None:
    """Raise RunRefusedError for a catalog class in the project's settings that does not record provenance."""
    if not isinstance(run.catalog, AtomicCatalog):
        raise RunRefusedError(
            f"The catalog is a {type(run.catalog).__name__}, which does not record what results were made of. Nothing "
            "was written. Set `DATA_CATALOG_CLASS = AtomicCatalog` in settings.py, see the README of kedro_provenance."
        )


def tell_unused_pipelines(run: Run) -> None:
    """Warn of pipelines that the command names and of which no node is left, as those that it chooses need none."""
    nodes = {node.name for node in run.pipeline.nodes}
    for name in run.params["pipeline_names"] or ():
        named = {node.name for node in pipelines[name].nodes}
        if named and nodes.isdisjoint(named):
            logger.warning(
                "No node of the pipeline %s is part of this run, although --pipelines names it, because the chosen "
                "nodes do not read its outputs. If they should, set the parameter that makes them do so.",
                name,
            )


def require_datasets(run: Run) -> None:
    """Make the datasets of the run; raise RunRefusedError for entries that are missing, or that make no dataset."""
    faults = []
    for name in sorted(run.pipeline.datasets() | run.pipeline.inputs()):
        try:
            if run.catalog.get(name) is None and name in run.pipeline.inputs():
                faults.append(f"{name}: no such entry of the catalog, and no such parameter")
        except DatasetError as error:
            lines = str(error).strip().removeprefix(f"An exception occurred when parsing config for dataset '{name}':")
            text = " ".join(lines.split())
            # Kedro's own text goes on with how the packages of all of its datasets are installed.
            if missing := re.match(r"No module named '(\w+)", text):
                text = f"its dataset needs a package that is not installed: `pip install {missing[1]}`"
            faults.append(f"{name}: {text}")
    advice = f"Correct them in conf/{run.env or 'base'}/ or conf/base/."
    refuse_faults("These entries of the catalog cannot be used.", faults, advice)


def require_readable(run: Run) -> None:
    """Raise RunRefusedError for inputs that another user has, else the run would take their versions for missing."""
    paths = {name: local_path(run.catalog.get(name)) for name in sorted(run.pipeline.inputs())}
    denied = [
        f"{name}: {path}"
        for name, path in paths.items()
        if path and os.access(path, os.F_OK) and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
    ]
    advice = f"Change the permissions, or run as the owner: this is the user {os.getuid()}."
    refuse_faults("What this run reads may not be read.", denied, advice)


def require_storage(run: Run) -> None:
    """List one folder of each bucket that the run uses; raise RunRefusedError if one cannot be listed."""
    faults, listed = [], set[str]()
    for name in sorted(run.pipeline.datasets() | manifest_entry(run.catalog)):
        entry = run.catalog.entry(name)
        for address in (entry[key] for key in ADDRESSES if is_remote(entry.get(key))):
            if (bucket := "/".join(address.split("/")[:3])) in listed:
                continue
            listed.add(bucket)
            try:
                require_bucket(address, storage_options(entry))
            except StorageError as error:
                faults.append(f"{name}: {error}")
    refuse_faults("This run's storage cannot be used.", faults)


def require_past_versions(run: Run) -> None:
    """Raise RunRefusedError for versions newer than those of this run, which it would read in place of its own."""
    now, named = run.params["run_id"], run.params["load_versions"] or {}  # the id is the version of what it saves
    ahead = []
    for name in sorted((run.pipeline.datasets() | manifest_entry(run.catalog)) - named.keys()):
        dataset = run.catalog.get(name)
        if is_versioned(dataset) and (newest := loaded_version(dataset)) and newest > now:
            ahead.append(f"{name}: version {newest} in {location(dataset)}")
    refuse_faults(
        f"Newer versions exist than those of this run, which begins at {now}.",
        ahead,
        "A clock was ahead when they were saved, or was set back since, and they would hide what this run saves. Set "
        "the clock; if it is right now, wait until it has passed them, or move or remove these versions.",
    )


def pin_versions(run: Run) -> None:
    """Let the run load the versions that the project's aliases name; those that the command names stay."""
    run.pinned = run.aliases.versions_to_load(run)
    run.catalog.pin(run.pinned)


def show_plan(run: Run) -> None:
    """Print the plan of `--only-missing-outputs`, and run nothing, if the parameter `dry_run` is true."""
    if run.parameters.get("dry_run"):
        Console().print(plan_table(plan(run.pipeline, run.catalog)))
        raise click.exceptions.Exit(0)


def choose_nodes(run: Run) -> None:
    """Find the nodes to run, with `--only-missing-outputs` or to continue a run that was killed.

    Kedro's own runner takes outputs that are out of date as missing; `IncrementalRunner` decides again in each node.
    """
    catalog = run.catalog
    catalog.revision = run.revision
    is_incremental = IncrementalRunner.__name__ in run.params["runner"]
    catalog.resumes = is_incremental and was_killed(run.data, run.params)
    if not (run.params["only_missing_outputs"] or catalog.resumes):
        return
    steps = plan(run.pipeline, catalog)
    run.to_run = Pipeline([step.node for step in steps if step.reasons])
    catalog.outdated = run.to_run.all_outputs()
    catalog.fitting = {step.node.name for step in steps if not step.reasons}
    if kept := len(steps) - len(run.to_run.nodes):
        logger.info("%d of %d nodes are not run: they are up to date.", kept, len(steps))


def plan_table(steps: list[Step]) -> Table:
    """Tabulate the plan of a run, a row per node."""
    names, reasons = Column("node", overflow="fold"), Column("why", overflow="fold")  # to be read and copied whole
    table = Table(names, "plan", reasons, title="What --only-missing-outputs would do at most")
    for step in steps:
        table.add_row(Text(step.node.name), "run" if step.reasons else "keep", Text("\n".join(step.reasons)))
    return table


def require_one_origin(run: Run) -> None:
    """Refuse a run that reads results of different origin, unless the parameter `allow_mixed` allows it."""
    inputs = run.to_run.inputs() | run.aliases.entries_to_fit(run)
    run.mixed = mixed_origins(inputs, run.catalog) + foreign_origins(inputs, run.catalog)
    if run.mixed and not run.parameters.get("allow_mixed"):
        lines = "\n".join(f"- {sentence}" for sentence in run.mixed)
        raise RunRefusedError(
            f"What this run reads does not fit together. Nothing was written.\n{lines}\n{remedy(run)}; or go on with "
            "`--params allow_mixed=true`: the report and the run manifest will say so."
        )


def remedy(run: Run) -> str:
    """Return how to make entries that do not fit together again; never by the refused command."""
    if run.params.get("load_versions"):
        return "Leave out --load-versions, or name versions that were made of one another"
    if said := run.aliases.remedy(run):
        return said
    if not run.params["only_missing_outputs"] or any(run.params.get(choice) for choice in CHOICES):
        return f"Make again what no longer fits, with {command('--only-missing-outputs', run.env)}"
    return f"Make all of it again, with {command('', run.env)}"


def require_inputs(run: Run) -> None:
    """Refuse a run with missing inputs, and say where they come from; refuse named versions that it does not read."""
    named = (run.params["load_versions"] or {}).keys()
    if made := sorted(named & run.to_run.all_outputs()):
        raise RunRefusedError(
            f"--load-versions names {', '.join(made)}, which this run makes itself. Nothing was written. Leave it out, "
            "or name pipelines or nodes that only read it."
        )
    if unread := sorted(named - run.pipeline.inputs() - run.to_run.inputs()):
        raise RunRefusedError(
            f"--load-versions names {', '.join(unread)}, which this run does not read. Nothing was written. Leave it "
            "out, or name the pipelines that read it."
        )
    missing = {
        name: text
        for name in sorted(run.to_run.inputs())
        if (text := absent_package(run.catalog.entry(name)) or absence(run.catalog.get(name)))
    }
    if missing:
        lines = [f"{name}: {text}" for name, text in missing.items()]
        refuse_faults(
            "What this run reads is not there.", lines, *how_to_make(map(entry_of, missing), "first", run.env)
        )


def absence(dataset: Any) -> str | None:
    """Return a sentence on the missing file or version of a dataset, and its place; None if none is missing."""
    path = location(dataset)
    if not isinstance(dataset, AbstractVersionedDataset) or has_magic(path):
        return None
    try:
        version = dataset.resolve_load_version()
    except VersionNotFoundError:
        return f"no version in {path}"
    if dataset.exists() or (cannot_tell(dataset) and (loaded_folder(dataset, version) or Path(path)).exists()):
        return None
    if version is not None:
        return f"no version {version} in {path}"
    neighbours = ", ".join(sorted(file.name for file in Path(path).parent.glob("[!.]*"))[:10])
    missing = f"no file {path}; it is raw data, and its catalog file in conf/ says where to get and put it"
    return f"{missing}. Beside it: {neighbours}" if neighbours else missing


def try_checks(run: Run) -> None:
    """Refuse a run whose nodes lack what they need, such as a model or a device, and would fail hours later."""
    faults = []
    for check in chain.from_iterable(checks(run.to_run, run.catalog) for checks in run.checks):
        try:
            check()
        except (ValueError, OSError, ImportError) as error:
            faults.append(str(error))
        except Exception as error:  # whatever it is, the run would fail by it
            logger.debug("A check failed.", exc_info=error)
            faults.append(f"{type(error).__name__}: {error}")
    refuse_faults("This run would fail.", faults)
