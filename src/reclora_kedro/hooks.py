"""Kedro hooks of the recommender."""

import shutil
import sys
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from kedro_provenance.datasets import configuration, loaded_version, location
from kedro_provenance.project import session_parameters
from kedro_provenance.unfinished import CHOICES
from reclora_kedro.current_model import CHOICE
from reclora_kedro.extras import missing_extra
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.terminal import show

RESULTS = {
    "recommendations_csv": "Recommendations of all users:",
    "recommendations": "The same as a versioned table:",
    "similar_items_csv": "Similar items for each item:",
    "evaluation_report": "The report, with all comparisons, segments and plots:",
}
"""Catalog entries that the end of a run that makes lists points to, by what they are."""
LIKES_ALONE = (
    "Every row of the log is a like. The rest of the default flow (lens, LLM and evaluation) also needs items that "
    "users did not take: `history: {negatives: {kind: matched}}` in parameters.yml samples some."
)
CHOICE_BEFORE = f"{CHOICE}_before"
"""The choice in use before, which stays until another is better; a node cannot read what it leaves."""


class RecommenderHooks:
    """Gives a run the choice in use before it, and ends one that makes lists with where they are."""

    changes_results = False

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl(trylast=True)  # the plug-in has locked the data folder and checked the parameters before
    def before_pipeline_run(self, pipeline: Pipeline, catalog: Any) -> None:
        if CHOICE_BEFORE in pipeline.inputs() and loaded_version(catalog.get(CHOICE)) is not None:
            catalog.save(CHOICE_BEFORE, catalog.load(CHOICE))

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        outputs = pipeline.all_outputs()
        if outputs.isdisjoint({"recommendations", "similar_items"}):
            return
        has_lists_alone = "recommendations" in outputs and "evaluation_report" not in outputs
        if has_lists_alone and not any(run_params.get(choice) for choice in CHOICES):  # say what was left out
            if PipelineNames.from_parameters(session_parameters()).likes_alone:
                show(LIKES_ALONE)
            elif text := missing_extra("llm", "The rest of the default flow (models with an LLM, and the report)"):
                show(text)
        for name, heading in RESULTS.items():
            if name in outputs:
                show(f"{heading}\n  {self._newest_file(catalog, name)}")
        service = catalog.load("params:service")
        env, kedro = self._context.env, typed_kedro()
        option = f" --env {env}" if env else ""
        lines = [f"{kedro} recommend USER{option}", "  ten titles with reasons for the user with this id"]
        lines += [f"{kedro} serve{option}", f"  the live page, http://{service['host']}:{service['port']}/"]
        lines += [] if env else [f"{kedro} new-log orders.csv products.csv", "  an environment for files of your own"]
        show("\n  ".join(["Next:", *lines]))

    def _newest_file(self, catalog: Any, name: str) -> str:
        """Return where an entry, or its newest version, lies, relative to the project if it is in there."""
        dataset = catalog.get(name)
        if table := configuration(dataset).get("table_name"):
            return f"the table {table}"
        address, version = location(dataset), loaded_version(dataset)
        file = address if version is None else f"{address}/{version}/{Path(address).name}"
        return file.removeprefix(f"{self._context.project_path}/")


def typed_kedro() -> str:
    """Return how to type `kedro` in this shell: its path, if the command of this environment is not the first one."""
    own = Path(sys.executable).with_name("kedro")
    if not own.exists() or shutil.which("kedro") == str(own):
        return "kedro"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
