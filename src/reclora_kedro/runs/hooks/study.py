"""A study can run cells of the session's project."""

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from reclora_kedro.runs.cells import CellRunner
from reclora_kedro.runs.hooks.run_manifest import git_revision


class StudyHooks:
    """Gives a study what runs its cells: nodes know neither the project nor the environment of their session."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the context, whose configuration the cells start from."""
        self._context = context

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Fill the entry `cell_runner` where a node reads it."""
        if "cell_runner" not in pipeline.inputs():
            return
        loader, project = self._context.config_loader, self._context.project_path
        runner = CellRunner(
            project=project,
            conf_source=str(loader.conf_source),
            env=self._context.env,
            runtime_params=loader.runtime_params or {},
            parameters=loader["parameters"],
            revision=git_revision(project),
        )
        catalog.save("cell_runner", runner)
