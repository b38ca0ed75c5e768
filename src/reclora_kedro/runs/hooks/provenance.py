"""What is stored says what it was made of, and a run reads nothing that does not fit."""

import logging
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node, Pipeline
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reclora_kedro.runs.catalog import AtomicCatalog
from reclora_kedro.runs.hooks.errors import command
from reclora_kedro.runs.hooks.refusal import RunRefusedError
from reclora_kedro.runs.plan import Step, made_by, mixed_origins, plan

logger = logging.getLogger(__name__)


class ProvenanceHooks:
    """Keeps the provenance of what nodes leave, and finds by it what a run has to make again.

    With `--only-missing-outputs`, a version that does not fit the run counts as missing. With the parameter `dry_run`,
    the run only prints what that would make again. A run that reads results of different origin is refused, unless the
    parameter `allow_mixed` says otherwise.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the session's parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl(tryfirst=True)  # before those that look at what is outdated
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: AtomicCatalog) -> None:
        """Plan the run.

        Raises:
            RunRefusedError: what it would read comes from different states of the same thing.
            click.exceptions.Exit: it was asked for the plan alone.
        """
        dry_run = self._parameters["dry_run"]
        if dry_run or run_params["only_missing_outputs"]:
            steps = plan(pipeline, catalog)
            if dry_run:
                Console().print(table(steps))
                raise click.exceptions.Exit(0)
            log(steps)
            to_run = [step.node for step in steps if step.reasons]
            catalog.outdated = {name for node in to_run for name in node.outputs}
            pipeline = Pipeline(to_run)
        catalog.mixed = mixed_origins(pipeline.inputs(), catalog)
        if catalog.mixed and not self._parameters["allow_mixed"]:
            lines = "\n".join(f"- {sentence}" for sentence in catalog.mixed)
            raise RunRefusedError(
                f"What this run reads does not fit together. Nothing was written.\n{lines}\n"
                f"Make again what no longer fits, with {command('--only-missing-outputs', run_params['env'])}; or go "
                "on with `--params allow_mixed=true`: the report and the run manifest will say so."
            )

    @hook_impl
    def before_node_run(self, node: Node, catalog: AtomicCatalog, run_id: str) -> None:
        """Note what the node's outputs will be made of."""
        if isinstance(catalog, AtomicCatalog):
            catalog.provenances |= dict.fromkeys(node.outputs, made_by(node, catalog, run_id))


def log(steps: list[Step]) -> None:
    """Say which nodes run, and why; what is only shown again is left out."""
    for step in steps:
        if step.reasons and step.node.outputs:
            logger.info("%s runs: %s", step.node.name, "; ".join(step.reasons))
    kept = sum(not step.reasons for step in steps)
    logger.info("%d of %d nodes are not run: what they left fits.", kept, len(steps))


def table(steps: list[Step]) -> Table:
    """The plan of a run, a row per node."""
    shown = Table("node", "plan", "why", title="What --only-missing-outputs would do")
    for step in steps:
        shown.add_row(Text(step.node.name), "run" if step.reasons else "keep", Text("\n".join(step.reasons)))
    return shown
