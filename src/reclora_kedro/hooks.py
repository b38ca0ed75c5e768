"""Kedro hooks of the recommender: actions that nodes must not take, such as deletions and further runs."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from kedro_provenance.catalog import loaded_version, location
from kedro_provenance.cells import CellRunner, check_cell, run_cell
from kedro_provenance.failures import RunRefusedError, command
from kedro_provenance.run import Run
from kedro_provenance.start import cell_runner
from reclora_kedro.pipelines.checks import checks

logger = logging.getLogger(__name__)

RESULTS = {
    "recommendations_csv": "Recommendations of all users:",
    "recommendations": "The same as a table with the histories of prompts:",
    "evaluation_report": "The report, with differences of all pairs, segments and plots:",
}
"""Catalog entries that the end of the default flow points to, by what they are."""


class RecommenderHooks:
    """Runs the cells of a study, erases forgotten users' data, and ends the default flow with where its results lie."""

    changes_results = False

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl(trylast=True)  # the plug-in has locked the data folder and checked the parameters before
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Run the cells of a study that have not finished; raise RunRefusedError for an invalid or failed one."""
        if "study_cells" not in pipeline.inputs():
            return
        from reclora_kedro.study import grid, results
        from reclora_kedro.study.config import GridConfig
        from reclora_kedro.study.search import Search

        study = catalog.load("params:study")
        runner = cell_runner(Run(self._context, run_params, pipeline, catalog, [checks]), share_cores)
        try:
            loaded = grid.load_grids(study.grid, catalog.load("study_grids"))
            grids = {name: each for name, each in loaded.items() if isinstance(each, GridConfig)}
            searches = {
                name: Search(name, each, study.seeds, runner.parameters)
                for name, each in loaded.items()
                if not isinstance(each, GridConfig)
            }
            compared = {name: search.comparison(search.default) for name, search in searches.items()}
            cells = grid.plan_cells(grids | compared, study.seeds, runner.parameters)
            grid.require_models(study.models, cells, runner.parameters)
            trials = {name: run_search(search, runner, study.workers) for name, search in searches.items()}
            compared = {name: search.comparison(search.best(trials[name])) for name, search in searches.items()}
            cells = grid.plan_cells(grids | compared, study.seeds, runner.parameters)
            finished = runner.run(cells, results.cell_result, study.workers)
        except (ValueError, RuntimeError) as error:
            raise RunRefusedError(str(error)) from error
        catalog.save("study_searches", trials)
        catalog.save("study_cells", list(zip(cells, finished, strict=True)))

    @hook_impl  # called before the plug-in's, which unlocks the data folder
    def after_pipeline_run(self, pipeline: Pipeline, catalog: Any) -> None:
        """Erase what the forget pipeline listed; after the default flow, show a user's titles and where results lie.

        Raises:
            RunRefusedError: something could not be erased.
        """
        outputs = pipeline.all_outputs()
        if {"recommendations", "evaluation_report"} <= outputs:
            self._show_end(catalog)
        if {"champion", "versions_to_erase"} <= outputs:
            self._erase(catalog)

    def _show_end(self, catalog: Any) -> None:
        from reclora_kedro.recommendation.recommendations import titles_table
        from reclora_kedro.terminal import show

        env = self._context.env
        show(titles_table(catalog.load("recommendations")))
        for name, heading in RESULTS.items():
            show(f"{heading}\n  {self._newest_file(catalog, name)}")
        service = catalog.load("params:service")
        serve = " ".join(["kedro serve", *([f"--env {env}"] if env else [])])
        show(
            f"Next:\n  {serve}\n    the live page, http://{service['host']}:{service['port']}/\n"
            f"  {command('--pipelines candidates,recommendation', env).strip('`')}\n"
            "    a trained retriever among what finds candidates\n"
            "  kedro new-log orders.csv products.csv\n    a log of your own"
        )

    def _newest_file(self, catalog: Any, name: str) -> str:
        """Return where the newest version of an entry lies, relative to the project if it is in there."""
        dataset = catalog.get(name)
        address, version = location(dataset), loaded_version(dataset)
        file = f"{address}/{version}/{Path(address).name}"
        return file.removeprefix(f"{self._context.project_path}/")

    def _erase(self, catalog: Any) -> None:
        try:
            events = catalog.get("journal").erase(catalog.load("params:forget").users)
            logger.info("%d events were erased from the service's journal.", events)
            catalog.load("archive").erase(catalog.load("versions_to_erase"), catalog.load("champion")["versions"])
        except (ValueError, OSError, DatasetError) as error:
            raise RunRefusedError(
                f"The users are forgotten in what is in use, but not all that should be erased was: {error} Type the "
                "command again once the cause is gone."
            ) from error


def share_cores(processes: int) -> None:
    """Use a share of the cores in this process, of as many processes as there are."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


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
