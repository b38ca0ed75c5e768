"""Kedro hooks of the recommender: what the terminal says at the end of the default flow."""

from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from kedro_provenance.catalog import loaded_version, location
from kedro_provenance.failures import command

RESULTS = {
    "recommendations_csv": "Recommendations of all users:",
    "recommendations": "The same as a table with the histories of prompts:",
    "evaluation_report": "The report, with differences of all pairs, segments and plots:",
}
"""Catalog entries that the end of the default flow points to, by what they are."""


class RecommenderHooks:
    """Ends the default flow with a user's titles and where its results lie."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: Any) -> None:
        """After the default flow, show a user's titles and where results lie."""
        if not {"recommendations", "evaluation_report"} <= pipeline.all_outputs():
            return
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
