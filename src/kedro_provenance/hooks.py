"""The plug-in's Kedro hooks, for the start and end of runs and nodes."""

import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline

import codeprint
from kedro_provenance import audit
from kedro_provenance.check_parameters import BlockTypes, check_names, check_parameters
from kedro_provenance.failures import RunRefusedError, explain_failure
from kedro_provenance.manifest import save_manifest
from kedro_provenance.plan import choose_partitions, leaves_nothing, recipe_of, version_by
from kedro_provenance.project import code_of_hook, making_pipelines, parameters_in_use
from kedro_provenance.run import Aliases, Checks, Run
from kedro_provenance.runner import announce, finish
from kedro_provenance.start import start
from kedro_provenance.terminal import show_messages
from kedro_provenance.unfinished import forget, note_failure

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class ProvenanceHooks:
    """Kedro hooks of a run, with any of Kedro's sessions and runners; a process has one run at a time.

    Args:
        packages: packages besides the project's own whose code affects the outputs of its nodes.
        checks: the project's own checks of what the nodes of a run need, before its first node.
        blocks: types of parameter blocks that no node reads.
        block_types: functions that return the types of blocks that nodes read without an annotation, since parameters
            name these blocks.
        check_names: refuse parameters that the base environment does not have, and entries of the catalog and globals
            of an environment whose names are most likely misspelt.
        late_tags: tags of nodes that run after all others that do not depend on them, such as long trainings; those of
            the last tag come last.
        aliases: the project's names for versions of entries from before a run, such as ``production.model``.
        stores: folders, relative to that of the data, with results by recipe, which runs take.
        audit: note the files that nodes open and their recipes lack, for ``kedro provenance audit``.
    """

    changes_results = False

    packages: Sequence[str] = ()
    checks: Sequence[Checks] = ()
    blocks: Mapping[str, Any] = field(default_factory=dict)
    block_types: Sequence[BlockTypes] = ()
    check_names: bool = False
    late_tags: Sequence[str] = ()
    aliases: Aliases = field(default_factory=Aliases)
    stores: Sequence[str] = ()
    audit: bool = False

    def __post_init__(self) -> None:
        codeprint.forget()  # settings are imported anew with the project's modules, as by `%reload_kedro` in a notebook
        if self.audit:
            sys.addaudithook(audit.note)  # for the life of the process
        self._session = threading.local()  # a server may load the contexts of two requests at the same time
        self._run: Run | None = None
        self._thread = threading.current_thread()  # of the run
        self._began, self._unsaved = dict[Node, float](), dict[Node, set[str]]()  # several nodes run in threads

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse wrong parameters and misspelt names; keep the context for the run."""
        show_messages()
        for hook in settings.HOOKS:
            code_of_hook(hook)  # before any of them knows this session
        self._session.began = time.time()
        with making_pipelines:
            check_parameters(context, self.blocks, self.block_types, self.check_names)
            if self.check_names:
                check_names(context)
            self._session.parameters = parameters_in_use()
        self._session.context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Start the run, and refuse whatever is wrong before anything is written."""
        if self._run and self._thread is not threading.current_thread() and self._thread.is_alive():
            raise RunRefusedError(
                "Another run is in progress in this process, which can only have one. Nothing was written. Start again "
                "when it has ended."
            )
        if parameters_in_use() is not self._session.parameters:
            raise RunRefusedError(
                "While this run began, another one with other parameters began in this process, and Kedro keeps the "
                "pipelines of only one. Nothing was written. Start again."
            )
        if self._run:  # it was interrupted in a notebook: Kedro calls no hook then
            self._end_run()
        self._thread = threading.current_thread()
        context = self._session.context
        older = {"run_id": run_params.get("session_id"), "pipeline_names": None}  # Kedro 1.0 to 1.2 lacks both
        self._run = Run(context, older | run_params, pipeline, catalog, self.checks, self.aliases)
        # Kedro's own sessions, such as those of Airflow's tasks, stay where the process began.
        self._run.held.enter_context(chdir(self._run.project))
        try:
            start(self._run)
        except (DatasetError, ValueError, OSError) as error:  # Kedro calls no hook when another one refuses the run
            self.on_pipeline_error(error)
            raise
        except BaseException:
            self._end_run()
            raise

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Announce the outputs of the node before its first input is loaded."""
        self._announce(node)

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> dict[str, Any]:
        """Start the node's clock once its inputs are loaded; return the partitions that it gets in place of all."""
        self._announce(node)  # there may be none
        self._began[node], self._unsaved[node] = time.time(), set(node.outputs)
        audit.opened.files = set()
        return choose_partitions(node, inputs, self._run.catalog) if self._run else {}

    def _announce(self, node: Node) -> None:
        """Announce the outputs of a node, unless the runner has done so already."""
        if self._run and node not in self._run.catalog.announced:
            catalog = self._run.catalog
            announce(node, catalog, version_by(recipe_of(node, catalog), catalog, self._run.params["run_id"]))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """End a node without outputs, and note what it opened."""
        if self.audit and self._run:
            catalog = self._run.catalog
            if recipe := catalog.announced[node].recipe:
                catalog.records.note_audit(node.name, audit.unknown_to(recipe, node, catalog))
        if not node.outputs:
            self._end_node(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """End a node whose outputs are all saved."""
        self._unsaved[node].discard(dataset_name)
        if not self._unsaved[node]:
            self._end_node(node)

    def _end_node(self, node: Node) -> None:
        assert self._run
        self._run.seconds[node] = seconds = time.time() - self._began[node]
        logger.info("%-36s %8.1f s  %s", node.name, seconds, "saved " * bool(node.outputs) + ", ".join(node.outputs))
        catalog = self._run.catalog
        if node in catalog.announced and leaves_nothing(node, catalog):
            catalog.records.note_run(node.name, catalog.announced[node])
        catalog.share(node.outputs)
        finish(node, catalog)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Save the manifest of a run that succeeded."""
        assert self._run
        try:
            save_manifest(self._run, time.time() - self._session.began)
            forget(self._run)
        finally:
            self._end_run()

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Explain the error of a failed run."""
        assert self._run
        note_failure(self._run)
        try:
            explain_failure(error, self._run)
        finally:
            self._end_run()

    def _end_run(self) -> None:
        """Release the resources of the run, such as its lock."""
        assert self._run
        self._run.held.close()
        self._run = None
