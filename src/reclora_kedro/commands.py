"""What the commands `kedro recommend`, `study` and `forget` do: a run of the project, and what no node may do.

A study runs the project once per cell before its own nodes tabulate the results. Forgetting erases stored versions and
events once its nodes have made everything in use without the users.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import polars as pl
from fsspec.utils import get_protocol
from kedro.framework.context import KedroContext
from kedro.framework.project import settings
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from codeprint.files import private_cache
from kedro_provenance.archive import Archive
from kedro_provenance.erasure import begin_certificate, finish_certificate, removed_by
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.scratch import remove_abandoned
from kedro_provenance.files.storage import is_remote, storage_options
from kedro_provenance.lock import lock_data
from kedro_provenance.parameters import soft_merge
from kedro_provenance.records import FOLDER as RECORDS
from kedro_provenance.run import Run, configuration
from reclora_kedro.api import Recommender
from reclora_kedro.cells import CellRunner, cell_runner, check_cell, run_cell
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.pipelines.checks import checks
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.recommendation.delivery import list_table
from reclora_kedro.serving.journal_databases import erase_events
from reclora_kedro.terminal import show
from reclora_kedro.update.remains import NOT_REACHED, Forgotten, files_that_name, made_again

logger = logging.getLogger(__name__)

CERTIFICATES = "08_reporting/forgetting"  # in the data folder


def recommend(
    project: Path,
    only_missing_outputs: bool = False,
    *,
    users: Sequence[str] = (),
    items: Sequence[str] = (),
    n: int = 10,
    model: str | None = None,
    **session: Any,
) -> None:
    """Run the default flow up to its lists; or print lists of users, or of a visitor who took some items.

    The latter are made by the recommender in the folder `model`, or else by that of the newest run. RunRefusedError is
    raised where there is no such recommender, and for an id of another kind than the log's.
    """
    if not (users or items):
        with settings.SESSION_CLASS.create(project, **session) as kedro:
            kedro.run(to_nodes=["recommendation.show_recommendations"], only_missing_outputs=only_missing_outputs)
        return
    try:
        chosen = newest_model(project, **session) if model is None else Recommender.load(model)
        lists = chosen.recommend([*users] or None, n, histories=[[*items]] if items else None)
    except (ValueError, OSError) as error:
        raise RunRefusedError(str(error)) from error
    heading = f"a visitor who took {', '.join(items)}" if items else ""
    for (user,), own in lists.group_by("user_id", maintain_order=True):
        show(list_table(own, f"Recommended to {heading or f'user {user}'}"))


def newest_model(project: Path, env: str | None, runtime_params: dict[str, Any], **session: Any) -> Recommender:
    """Return the recommender of the current model, or else of the newest run, without an LLM."""
    params = soft_merge(runtime_params, {"service": {"variant": None, "model": "lens"}})
    served = ServedProject(project, env, params, **session).current_model()
    parts = {each.name: getattr(served.recommender, each.name) for each in fields(served.recommender)}
    if served.lens is not None:
        from reclora_kedro.lens.states import LensReader

        parts["lens"] = LensReader(served.lens, served.log)
    return Recommender(**parts, ingestion=served.ingestion)


def study(project: Path, only_missing_outputs: bool = False, **session: Any) -> None:
    """Run the cells of a study that have not finished, then the pipeline that compares them, in a session of Kedro.

    RunRefusedError is raised for an invalid grid or cell, and for a cell that failed; finished nodes are kept.
    """
    with settings.SESSION_CLASS.create(project, **session) as kedro:
        context = kedro.load_context()
        if not context.params.get("dry_run"):
            with _locked(context, "study") as run:
                _run_cells(run)
        kedro.run(pipeline_names=["study"], only_missing_outputs=only_missing_outputs)


def _run_cells(run: Run) -> None:
    from reclora_kedro.study import grid, results
    from reclora_kedro.study.config import GridConfig, StudyConfig
    from reclora_kedro.study.search import Search

    config, runner = StudyConfig.model_validate(run.parameters["study"]), cell_runner(run)
    try:
        loaded = grid.load_grids(config.grid, run.catalog.load("study_grids"))
        grids = {name: each for name, each in loaded.items() if isinstance(each, GridConfig)}
        searches = {
            name: Search(name, each, config.seeds, runner.parameters)
            for name, each in loaded.items()
            if not isinstance(each, GridConfig)
        }
        compared = {name: search.comparison(search.default) for name, search in searches.items()}
        cells = grid.plan_cells(grids | compared, config.seeds, runner.parameters)
        grid.require_models(config.models, cells, runner.parameters)
        trials = {name: run_search(search, runner, config.workers) for name, search in searches.items()}
        compared = {name: search.comparison(search.best_trial(trials[name])) for name, search in searches.items()}
        cells = grid.plan_cells(grids | compared, config.seeds, runner.parameters)
        finished = runner.run(cells, results.cell_result, config.workers)
    except (ValueError, RuntimeError) as error:
        raise RunRefusedError(str(error)) from error
    studied = [results.StudiedCell(cell, result) for cell, result in zip(cells, finished, strict=True)]
    run.catalog.save("study_searches", trials)
    run.catalog.save("study_cells", [each.to_json() for each in studied])


def run_search(search: Any, runner: CellRunner, workers: int) -> list[dict[str, Any]]:
    """Run a search's trials in processes and return their records; raise RuntimeError if a cell cannot be run."""
    from reclora_kedro.study.search import Measured, measure

    with runner.processes(workers) as pool:
        for checked in [pool.submit(check_cell, runner, cell) for cell in search.corners()]:
            checked.result()
        result = partial(measure, column=search.column)

        def run(cell: Any) -> Measured:
            return pool.submit(run_cell, runner, cell, result).result()[0]

        return search.run(run, runner.cells, workers)


def forget(project: Path, only_missing_outputs: bool = False, **session: Any) -> None:
    """Run the pipeline that forgets users, then erase them in files that have no versions, and the versions it listed.

    RunRefusedError is raised if something could not be erased.
    """
    given = session.pop("runtime_params", {})
    lens: dict[str, Any] = {"lens": False}  # until the catalog tells, so that no pipeline wants what trains one
    with settings.SESSION_CLASS.create(project, runtime_params=soft_merge(given, {"forget": lens}), **session) as kedro:
        lens["lens"] = kedro.load_context().catalog.exists("lens")
    session["runtime_params"] = soft_merge({"forget": lens}, given)
    with settings.SESSION_CLASS.create(project, **session) as kedro:
        kedro.run(pipeline_names=["forget"], only_missing_outputs=only_missing_outputs)
        with _locked(kedro.load_context(), "forget") as run:
            _erase(run)


def _erase(run: Run) -> None:
    catalog, users = cast(Any, run.catalog), run.parameters["forget"]["users"]
    archive = Archive(catalog, run.stores)
    try:
        events = erase_events(catalog.get("journal").journal, users)
        logger.info("%d events were erased from the service's journal.", events)
        done: dict[str, Any] = {"events_removed_from_journal": events, "lines_removed_from_recommendations": 0}
        if catalog.exists("recommendations_csv"):
            lines = catalog.load("recommendations_csv")
            ids = lines["user_id"].cast(pl.String)  # a table of a database may have numbers
            ids = ids.str.replace(r"^'(\s*[=+\-@\t\r])", "${1}")  # as files of earlier releases have them
            kept = lines.filter(~ids.is_in([id_text(user) for user in users]))
            catalog.save("recommendations_csv", kept)
            done["lines_removed_from_recommendations"] = lines.height - kept.height
        if catalog.exists("learned_weights"):
            catalog.save("learned_weights", {})  # which are learned again, from the others
        addresses, in_use = catalog.load("versions_to_erase"), catalog.load("champion")["versions"]
        done |= {name: run.parameters["forget"][name] for name in ("erase", "retrain")}
        versions = {each.address: each for each in archive.versions()}
        done |= {"versions_in_use": in_use, "made_again": made_again(versions.values(), in_use), "users": len(users)}
        erased = [versions.pop(address) for address in addresses if address in versions]
        archive.require_erasable(erased, in_use.items())
        file = begin_certificate(run.data / CERTIFICATES, run, erased, **done)
        for each in erased:
            each.erase()
        remove_abandoned()  # temporary files of killed runs
        found, places = _search(run, {each.content for each in versions.values()})
        if run.parameters["forget"]["erase"]:
            records = {name for name in found if Path(name).match(f"{RECORDS}/node-*")}  # of what a node has shown
            for name in records:
                (run.project / name).unlink()
                del found[name]
        finish_certificate(file, searched=places, not_reached=NOT_REACHED, still_there=found)
    except (ValueError, OSError, DatasetError) as error:
        raise RunRefusedError(
            f"The users were removed from everything in use, but not everything was erased: {error} Type the command "
            "again once the cause is fixed."
        ) from error
    level = logging.WARNING if found and run.parameters["forget"]["erase"] else logging.INFO
    logger.log(level, "%d files or tables still name a forgotten user or cannot be read: see %s.", len(found), file)


def _search(run: Run, left: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Search all that the project keeps for the users by content; return what names them, and where was searched.

    `left` are the contents of the versions that were not erased, some of which were made again, and equal.
    """
    forgotten = Forgotten.from_versions(run.parameters["forget"]["users"], [], pl.Series(dtype=pl.String))
    found, places = dict[str, str](), list[str]()
    erased = {each["content"] for each in removed_by(run.data / CERTIFICATES)}.difference(left, {""})
    for address, options in _places(run):
        if not any(Path(address).is_relative_to(place) for place in places if not is_remote(place)):
            found |= files_that_name(address, options, forgotten, erased)
            places.append(address)
    for name, entry in run.catalog.config_resolver.config.items():
        if "table_name" in entry and "{" not in name and not name.startswith("raw_") and run.catalog.exists(name):
            places.append(f"table {entry['table_name']} of the entry {name}")
            table = run.catalog.load(name)
            table = table if isinstance(table, pl.DataFrame) else pl.from_pandas(table)
            if forgotten.in_table(table.lazy()):
                found[places[-1]] = "names a user"
    project = f"{run.project}/"
    return {path.removeprefix(project): text for path, text in found.items()}, places


def _places(run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the address and the storage options of each folder and file in which the project keeps data."""
    yield str(run.data), {}
    if is_remote(run.data_address):
        credentials = configuration(run.context.config_loader, "credentials")
        yield run.data_address, credentials.get(get_protocol(run.data_address), {})
        path = run.data_address.replace("://", "/")
        yield str(private_cache("kedro-provenance") / "versions" / path), {}
    yield from ((store.address, store.options) for store in run.stores if store.is_cache)
    uri = str((run.parameters.get("tracking") or {}).get("uri"))  # of MLflow, whose files lie beside its database
    kept = ["mlruns", ".viz", *(path.name for path in run.project.glob("*.log*"))]
    if uri.startswith("sqlite:///"):
        kept += [(database := uri.removeprefix("sqlite:///")), str(Path(database).with_suffix(""))]
    paths = [run.project / each for each in kept]
    for entry in run.catalog.config_resolver.config.values():
        if (address := entry.get("filepath")) and "{" not in address:
            if is_remote(address):
                if not address.startswith(run.data_address):
                    yield address, storage_options(entry)
            else:
                paths.append(run.project / address)
    yield from ((str(path), {}) for path in paths if path.exists())


@contextmanager
def _locked(context: KedroContext, pipeline: str) -> Iterator[Run]:
    """Give a command what a run has of its project, whose data folder no other run uses meanwhile."""
    catalog: Any = context.catalog
    run = Run(context, {"pipeline_names": [pipeline], "env": context.env}, Pipeline([]), catalog, [checks])
    with run.held:
        lock_data(run)
        yield run
