"""Kedro hooks of the recommender: actions that nodes must not take, such as deletions and further runs."""

import logging
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from kedro_provenance.failures import RunRefusedError
from kedro_provenance.run import Run
from kedro_provenance.start import cell_runner
from reclora_kedro.pipelines.checks import checks

logger = logging.getLogger(__name__)


class RecommenderHooks:
    """Runs the cells of a study before its nodes, and erases forgotten users' data after the nodes."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl(trylast=True)  # the plug-in has locked the data folder and checked the parameters before
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Run the nodes of a study's cells that no earlier run has finished.

        Raises:
            RunRefusedError: a cell is invalid or failed; finished ones are kept.
        """
        if "study_cells" not in pipeline.inputs():
            return
        from reclora_kedro.study import grid, results

        study = catalog.load("params:study")
        runner = cell_runner(Run(self._context, run_params, pipeline, catalog, [checks]))
        try:
            grids = grid.load_grids(study.grid, catalog.load("study_grids"))
            cells = grid.plan_cells(grids, study.seeds, runner.parameters)
            grid.require_models(study.models, cells, runner.parameters)
            finished = runner.run(cells, results.cell_result, study.workers)
        except (ValueError, RuntimeError) as error:
            raise RunRefusedError(str(error)) from error
        catalog.save("study_cells", list(zip(cells, finished, strict=True)))

    @hook_impl  # called before the plug-in's, which unlocks the data folder
    def after_pipeline_run(self, pipeline: Pipeline, catalog: Any) -> None:
        """Erase users from the service's journal, and the stored versions that the forget pipeline listed.

        Raises:
            RunRefusedError: something could not be erased.
        """
        if not {"champion", "versions_to_erase"} <= pipeline.all_outputs():
            return
        try:
            events = catalog.get("journal").erase(catalog.load("params:forget").users)
            logger.info("%d events were erased from the service's journal.", events)
            catalog.load("archive").erase(catalog.load("versions_to_erase"), catalog.load("champion")["versions"])
        except (ValueError, OSError, DatasetError) as error:
            raise RunRefusedError(
                f"The users are forgotten in what is in use, but not all that should be erased was: {error} Type the "
                "command again once the cause is gone."
            ) from error
