"""What every run does besides its nodes: one ordered start, notes on each node, and its end."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.check_parameters import check_names, check_parameters
from kedro_provenance.failures import explain_failure
from kedro_provenance.manifest import save_manifest
from kedro_provenance.run import Run
from kedro_provenance.unfinished import forget

logger = logging.getLogger(__name__)


class RunHooks:
    """Kedro's hooks of a run.

    Args:
        start: functions of the run that are called one after the other before its first node. One that raises an error
            refuses the run.
        blocks: types of blocks of parameters that no node reads.
    """

    def __init__(
        self,
        start: Sequence[Callable[[Run], None]],
        blocks: Mapping[str, Any],
    ) -> None:
        self._start, self._blocks = start, blocks
        self._run: Run | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse wrong parameters and misspelt names; keep the context of the others."""
        self._began = time.time()
        check_parameters(context, self._blocks)
        check_names(context)
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: AtomicCatalog) -> None:
        """Start the run, step by step."""
        if self._run:  # it was interrupted in a notebook: no hook is called then
            self._run.held.close()
        self._run = Run(self._context, run_params, pipeline, catalog)
        try:
            for step in self._start:
                step(self._run)
        except (DatasetError, ValueError, OSError) as error:  # no hook is called when another one refuses the run
            self.on_pipeline_error(error)
            raise
        except BaseException:
            self._run.held.close()
            raise

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Start the node's clock: the inputs are loaded."""
        self._node_began, self._unsaved = time.time(), set(node.outputs)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """End a node that leaves nothing."""
        if not node.outputs:
            self._end(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """End a node whose outputs are all saved, in whatever order they were."""
        self._unsaved.discard(dataset_name)
        if not self._unsaved:
            self._end(node)

    def _end(self, node: Node) -> None:
        """Note a node that has ended."""
        assert self._run
        self._run.seconds[node] = seconds = time.time() - self._node_began
        logger.info("%-36s %8.1f s  %s", node.name, seconds, "saved " * bool(node.outputs) + ", ".join(node.outputs))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Save the manifest of a run that succeeded."""
        assert self._run
        with self._run.held:
            save_manifest(self._run, time.time() - self._began)
            forget(self._run)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Say what to do about the error of a run that failed."""
        assert self._run
        with self._run.held:
            explain_failure(error, self._run)
