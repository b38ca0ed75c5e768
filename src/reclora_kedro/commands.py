"""What the commands `kedro study` and `kedro forget` do: a run of the project, and what no node may do.

A study runs the project once per cell before its own nodes tabulate the results. Forgetting erases stored versions and
events once its nodes have made everything in use without the users.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import polars as pl
from kedro.framework.context import KedroContext
from kedro.framework.project import settings
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from kedro_provenance.archive import Archive
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.atomic import atomic_file
from kedro_provenance.lock import lock_data
from kedro_provenance.run import Run
from reclora_kedro.cells import CellRunner, cell_runner, check_cell, run_cell
from reclora_kedro.pipelines.checks import checks

logger = logging.getLogger(__name__)

CERTIFICATES = "08_reporting/forgetting"  # in the data folder
NOT_SEARCHED = [
    "weights and databases, whose entries and rows the run has made again or erased",
    "copies outside of the data folder: backups, exports, MLflow, caches of other machines, the terminal's history",
]


def study(project: Path, only_missing_outputs: bool = False, **session: Any) -> None:
    """Run the cells of a study that have not finished, then the pipeline that compares them, in a session of Kedro.

    Raises:
        RunRefusedError: a grid or a cell is invalid, or a cell failed; finished nodes are kept.
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

    Raises:
        RunRefusedError: something could not be erased.
    """
    with settings.SESSION_CLASS.create(project, **session) as kedro:
        kedro.run(pipeline_names=["forget"], only_missing_outputs=only_missing_outputs)
        with _locked(kedro.load_context(), "forget") as run:
            _erase(run)


def _erase(run: Run) -> None:
    from reclora_kedro.ingestion.ids import id_text
    from reclora_kedro.serving.journal_databases import erase_events

    catalog, users = cast(Any, run.catalog), run.parameters["forget"]["users"]
    try:
        events = erase_events(catalog.get("journal").journal, users)
        logger.info("%d events were erased from the service's journal.", events)
        if catalog.exists("recommendations_csv"):
            lines = catalog.load("recommendations_csv")
            ids = lines["user_id"].cast(pl.String)  # a table of a database may have numbers
            ids = ids.str.replace(r"^'(\s*[=+\-@\t\r])", "${1}")  # as files of earlier releases have them
            catalog.save("recommendations_csv", lines.filter(~ids.is_in([id_text(user) for user in users])))
        if catalog.exists("learned_weights"):
            catalog.save("learned_weights", {})  # which are learned again, from the others
        addresses, versions = catalog.load("versions_to_erase"), catalog.load("champion")["versions"]
        Archive(catalog, run.stores).erase(addresses, versions.items())
        if run.parameters["forget"]["erase"]:
            _certify(run, {"journal_events_erased": events, "versions_erased": addresses, "versions_in_use": versions})
    except (ValueError, OSError, DatasetError) as error:
        raise RunRefusedError(
            f"The users are forgotten in what is in use, but not all that should be erased was: {error} Type the "
            "command again once the cause is gone."
        ) from error


def _certify(run: Run, done: dict[str, Any]) -> None:
    """Search all files of the data folder for the users, and write what was done and found to a file for auditors.

    It holds no id.
    """
    from reclora_kedro.update.remains import Forgotten, files_that_name

    users = run.parameters["forget"]["users"]
    found = files_that_name(run.data, Forgotten.from_versions(users, [], pl.Series(dtype=pl.String)))
    now = datetime.now(UTC)
    certificate = {"time": now.isoformat(timespec="seconds"), "users": len(users)} | done
    certificate |= {"files_that_name_a_user": found, "not_searched": NOT_SEARCHED}
    folder = run.data / CERTIFICATES
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{now:%Y-%m-%dT%H.%M.%SZ}.json"
    atomic_file(file, json.dumps(certificate, indent=1).encode())
    level = logging.WARNING if found else logging.INFO
    logger.log(
        level, "%d files of %s still name a forgotten user or cannot be read: see %s.", len(found), run.data, file
    )


@contextmanager
def _locked(context: KedroContext, pipeline: str) -> Iterator[Run]:
    """Give a command what a run has of its project, whose data folder no other run uses meanwhile."""
    catalog: Any = context.catalog
    run = Run(context, {"pipeline_names": [pipeline], "env": context.env}, Pipeline([]), catalog, [checks])
    with run.held:
        lock_data(run)
        yield run
