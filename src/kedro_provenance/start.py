"""The steps of a run's start, in the order of the list in `settings.py`: each refuses the run or prepares it."""

import logging
from glob import has_magic
from pathlib import Path
from typing import Any

import click
from kedro.io import AbstractVersionedDataset, DatasetError
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedro_provenance.catalog import ADDRESSES, is_versioned, loaded_version, location, remote_versions
from kedro_provenance.cells import CellRunner, Checks
from kedro_provenance.champion import CHAMPION, champion_history, entry_of
from kedro_provenance.failures import RunRefusedError, command, how_to_make
from kedro_provenance.files.storage import StorageError, is_remote, require_bucket, storage_options
from kedro_provenance.manifest import git_revision
from kedro_provenance.plan import Step, foreign_origins, mixed_origins, plan
from kedro_provenance.run import Run
from kedro_provenance.runner import IncrementalRunner
from kedro_provenance.unfinished import CHOICES

logger = logging.getLogger(__name__)


def require_default_runner(run: Run) -> None:
    """Refuse runners that keep less than what a run of this project promises, by the name, which is all Kedro tells.

    Sessions of the project take `IncrementalRunner` where no other one, or Kedro's SequentialRunner, is named.

    Raises:
        RunRefusedError: it is another one.
    """
    if (text := run.params["runner"]) != str(IncrementalRunner()):
        runner = text.partition(" object at ")[0].rpartition(".")[2]
        raise RunRefusedError(
            f"This project does not run with {runner}. Nothing was written. Results that can be reproduced, atomic "
            "saves, checkpoints and the run manifest need nodes that run one after the other in one process, which "
            "calls the hooks: leave out --runner, and in Python take a session of `settings.SESSION_CLASS`. To "
            "train on several GPUs, or in several processes, set "
            "`processes` in the `training` block of a variant."
        )


def require_datasets(run: Run) -> None:
    """Make the dataset of each entry that the run reads or leaves.

    Raises:
        RunRefusedError: an entry is not there, names no type of datasets, or arguments that its type does not take.
    """
    faults = []
    for name in sorted(run.pipeline.datasets() | run.pipeline.inputs()):
        try:
            if run.catalog.get(name) is None and name in run.pipeline.inputs():
                faults.append(f"- {name}: no such entry of the catalog, and no such parameter")
        except DatasetError as error:
            lines = str(error).strip().removeprefix(f"An exception occurred when parsing config for dataset '{name}':")
            faults.append(f"- {name}: {' '.join(lines.split())}")
    if faults:
        heading = "These entries of the catalog cannot be used. Nothing was written."
        raise RunRefusedError(
            "\n".join([heading, *faults, f"Correct them in conf/{run.env or 'base'}/ or conf/base/."])
        )


def require_storage(run: Run) -> None:
    """List one folder of each bucket that the run uses.

    Raises:
        RunRefusedError: one cannot be listed.
    """
    buckets: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for name in sorted(run.pipeline.datasets() | {"run_manifest"}):
        entry = run.catalog.config_resolver.resolve_pattern(name)
        for address in (entry[key] for key in ADDRESSES if is_remote(entry.get(key))):
            bucket = "/".join(address.split("/")[:3])
            buckets.setdefault(bucket, (name, address, storage_options(entry)))
    faults = []
    for name, address, options in buckets.values():
        try:
            require_bucket(address, options)
        except StorageError as error:
            faults.append(f"- {name}: {error}")
    if faults:
        raise RunRefusedError("\n".join(["This run's storage cannot be used. Nothing was written.", *faults]))


def require_past_versions(run: Run) -> None:
    """Refuse a run beside versions that are newer than those it will save: it would read them in their place.

    Raises:
        RunRefusedError: there are some, as of a clock that was ahead.
    """
    now, named = run.params["run_id"], run.params["load_versions"] or {}  # the id is the version of what it saves
    ahead = []
    for name in sorted((run.pipeline.datasets() | {"run_manifest"}) - named.keys()):
        dataset = run.catalog.get(name)
        if is_versioned(dataset) and (newest := loaded_version(dataset)) and newest > now:
            ahead.append(f"- {name}: version {newest} in {location(dataset)}")
    if ahead:
        lines = "\n".join(ahead)
        raise RunRefusedError(
            f"Versions are there that are newer than this run, which begins at {now}. Nothing was written.\n{lines}\n"
            "A clock was ahead when they were saved, and this run would read them in place of what it saves. If the "
            "clock is right now, remove these versions, or move them away."
        )


def show_plan(run: Run) -> None:
    """Print what `--only-missing-outputs` would do, if the parameter `dry_run` asks for it.

    Raises:
        click.exceptions.Exit: it does, and nothing is run.
    """
    if run.parameters["dry_run"]:
        Console().print(plan_table(plan(run.pipeline, run.catalog)))
        raise click.exceptions.Exit(0)


def choose_nodes(run: Run) -> None:
    """Find which nodes run; with `--only-missing-outputs`, those that may have to, see `IncrementalRunner`."""
    if not run.params["only_missing_outputs"]:
        return
    steps = plan(run.pipeline, run.catalog)
    run.to_run = Pipeline([step.node for step in steps if step.reasons])
    logger.info("%d of %d nodes are not run: what they left fits.", len(steps) - len(run.to_run.nodes), len(steps))


def plan_table(steps: list[Step]) -> Table:
    """The plan of a run, a row per node."""
    shown = Table("node", "plan", "why", title="What --only-missing-outputs would do at most")
    for step in steps:
        shown.add_row(Text(step.node.name), "run" if step.reasons else "keep", Text("\n".join(step.reasons)))
    return shown


def require_one_origin(run: Run) -> None:
    """Refuse a run that reads results of different origin, unless the parameter `allow_mixed` says otherwise.

    What an update goes on from becomes the champion where there is none, and is of one origin, too. Later champions are
    not: an update names those versions that it made together.

    Raises:
        RunRefusedError: what it would read comes from different states of the same thing.
    """
    inputs = run.to_run.inputs()
    goes_on_from = {entry_of(name) for name in inputs if name.startswith(f"{CHAMPION}.")}
    if goes_on_from and not champion_history(run.catalog):
        inputs |= goes_on_from
    run.mixed = mixed_origins(inputs, run.catalog) + foreign_origins(inputs, run.catalog)
    if run.mixed and not run.parameters["allow_mixed"]:
        lines = "\n".join(f"- {sentence}" for sentence in run.mixed)
        raise RunRefusedError(
            f"What this run reads does not fit together. Nothing was written.\n{lines}\n{remedy(run)}; or go on with "
            "`--params allow_mixed=true`: the report and the run manifest will say so."
        )


def remedy(run: Run) -> str:
    """How to make again what does not fit together; never the command that was refused for it."""
    if run.params.get("load_versions"):
        return "Leave out --load-versions, or name versions that were made of one another"
    if run.promoted:
        return (
            f"Of {', '.join(run.promoted)}, the champion names the versions; the others are the newest. Have an update "
            "take these along; or make all of them of one log, and read the newest with `--params champion=newest`"
        )
    if not run.params["only_missing_outputs"] or any(run.params.get(choice) for choice in CHOICES):
        return f"Make again what no longer fits, with {command('--only-missing-outputs', run.env)}"
    return f"Make all of it again, with {command('', run.env)}"


def require_inputs(run: Run) -> None:
    """Refuse a run whose inputs are not there: raw files, and versions that an earlier pipeline makes.

    Raises:
        RunRefusedError: one is missing, or a version is named of what the run itself makes. It says where that comes
            from.
    """
    if made := sorted((run.params["load_versions"] or {}).keys() & run.to_run.all_outputs()):
        raise RunRefusedError(
            f"--load-versions names {', '.join(made)}, which this run makes itself. Nothing was written. Leave it out "
            "there, or name pipelines or nodes that read it alone."
        )
    absences = {name: absence(run.catalog.get(name)) for name in sorted(run.to_run.inputs())}
    missing = {name: text for name, text in absences.items() if text}
    if missing:
        lines = [f"- {name}: {text}" for name, text in missing.items()]
        remedy = [*how_to_make(map(entry_of, missing), "first", run.env)]
        raise RunRefusedError("\n".join(["What this run reads is not there. Nothing was written.", *lines, *remedy]))


def absence(dataset: Any) -> str | None:
    """Which file or version of a dataset is not there, and where it should be; None if there is nothing amiss."""
    path, remote = location(dataset), remote_versions(dataset)
    if not isinstance(dataset, AbstractVersionedDataset) or has_magic(path):
        return None
    try:
        version = dataset.resolve_load_version()
    except VersionNotFoundError:
        return f"no version in {path}"
    if version is not None:
        is_there = remote.has(version) if remote else version in dataset.list_versions(full_path=False)
        return None if is_there else f"no version {version} in {path}"
    if dataset.exists():
        return None
    beside = ", ".join(sorted(file.name for file in Path(path).parent.glob("[!.]*"))[:10])
    said = f"no file {path}; it is raw data, and its catalog file in conf/ says where to get and put it"
    return f"{said}. Beside it: {beside}" if beside else said


def try_out(checks: Checks, run: Run) -> None:
    """Try what the nodes of the run will need, such as an LLM or a device: it would fail hours later otherwise.

    Args:
        checks: the nodes' own checks.
        run: the run.

    Raises:
        RunRefusedError: something will fail; names all that will.
    """
    faults = []
    for check in checks(run.to_run, run.catalog):
        try:
            check()
        except (ValueError, OSError, ImportError) as error:
            faults.append(str(error))
    if faults:
        lines = [f"- {fault}" for fault in dict.fromkeys(faults)]
        raise RunRefusedError("\n".join(["This run would fail. Nothing was written.", *lines]))


def give_cell_runner(checks: Checks, run: Run) -> None:
    """Fill the entry `cell_runner` where a node reads it: nodes know neither the project nor the environment.

    Args:
        checks: those of the nodes that cells run.
        run: the run.
    """
    if "cell_runner" not in run.pipeline.inputs():
        return
    loader = run.context.config_loader
    runner = CellRunner(
        project=run.project,
        data=run.data,
        conf_source=str(loader.conf_source),
        env=run.context.env,
        runtime_params=loader.runtime_params or {},
        parameters=run.parameters,
        revision=git_revision(run.project),
        checks=checks,
    )
    run.catalog.save("cell_runner", runner)
