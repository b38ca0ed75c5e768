"""The runner that keeps up-to-date outputs, and the record of each node that runs."""

import inspect
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from kedro.framework import project
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro.runner.task import Task

from kedro_provenance import audit
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_in_memory, is_scratch
from kedro_provenance.files.scratch import end_with_parent
from kedro_provenance.kedro_internals import NodeByNodeRunner, PreparingRunner
from kedro_provenance.plan import is_untracked, reasons_to_run, recipe_of, version_by
from kedro_provenance.project import of_hooks
from kedro_provenance.recipe import Recipe, StoredVersion

logger = logging.getLogger(__name__)


class IncrementalRunner(NodeByNodeRunner):
    """Runs nodes one after the other; with ``only_missing_outputs``, only those whose outputs are out of date.

    This is decided when the node's turn comes: a node whose inputs have not changed is not run ("early cutoff" in
    Mokhov, Mitchell and Peyton Jones, "Build systems à la carte", ICFP 2018). An earlier version made by the same
    recipe is copied. Nodes with outputs in memory run once a node that runs reads them.
    """

    def __init__(self, is_async: bool = False) -> None:
        super().__init__(is_async=is_async)
        self.keeps = False
        self.nodes_run = 0

    def __str__(self) -> str:
        """Name the class to hooks; kedro-viz tracks runs in which it finds the name of Kedro's sequential runner."""
        return f"{type(self).__name__}, a {SequentialRunner.__module__}.{SequentialRunner.__name__} object"

    def run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: Any = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """Run a pipeline, see :meth:`kedro.runner.AbstractRunner.run`; also continue an interrupted run."""
        self.keeps = only_missing_outputs or catalog.resumes
        catalog.read = {name for node in pipeline.nodes for name in node.inputs}
        self._makers = {name: node for node in pipeline.nodes for name in node.outputs}
        self._kept = list[str]()
        try:
            return super().run(pipeline, catalog, hook_manager, run_id)
        finally:
            self._tell_kept()

    def ordered(self, pipeline: Pipeline) -> list[Node]:
        """Return the nodes in an order in which those with a late tag follow all others that do not depend on them.

        So a run fails early, such as for data that cannot be split, and not after hours of a training. Of two late
        tags, the nodes of the second one follow.
        """
        late, nodes = of_hooks("late_tags"), list[Node]()
        lateness = {
            node: max((1 + late.index(tag) for tag in {*late} & node.tags), default=0) for node in pipeline.nodes
        }
        if not any(lateness.values()):
            return list(pipeline.nodes)
        left, needed = list(pipeline.nodes), pipeline.node_dependencies
        while left:
            ready = [node for node in left if needed[node].isdisjoint(left)]
            nodes.append(min(ready, key=lambda node: lateness[node]))
            left.remove(nodes[-1])
        return nodes

    def run_node(self, task: Task, catalog: AtomicCatalog) -> None:
        """Run a node, keep its outputs, or reuse earlier ones."""
        node = task.node
        if self.keeps and node.name in catalog.fitting:  # no node that it reads from runs either
            self._kept.append(node.name)
            return finish(node, catalog)
        recipe = recipe_of(node, catalog)
        reasons = list(dict.fromkeys(reasons_to_run(node, catalog, recipe=recipe))) if self.keeps else []
        if self.keeps and not reasons:
            announce(node, catalog, version_by(recipe, catalog, task.run_id))
            self._kept.append(node.name)
        elif self.keeps and (made := self.made_before(node, catalog, recipe)):
            self._tell_kept()
            logger.info("%s is not run: its earlier outputs with the same recipe are used.", node.name)
            announce(node, catalog, version_by(recipe, catalog, task.run_id))
            catalog.take(made)
        else:
            if reasons:
                logger.info("%s runs: %s", node.name, "; ".join(reasons))
            self.execute(task, catalog, version_by(recipe, catalog, task.run_id))
        finish(node, catalog)

    def _tell_kept(self) -> None:
        """Log the nodes that were not run since the last one that ran: a line for each of hundreds takes a while."""
        if self._kept:
            logger.info("Not run, because nothing requires it: %s.", ", ".join(self._kept))
            self._kept.clear()

    def execute(self, task: Task, catalog: AtomicCatalog, version: StoredVersion) -> None:
        """Run a node after those whose outputs in memory it reads, if they have not run yet."""
        node = task.node
        self._tell_kept()
        for name in node.inputs:
            if name in self._makers and is_in_memory(catalog.get(name)) and not catalog.exists(name):
                maker = Task(self._makers[name], catalog, task.is_async, task.hook_manager, task.run_id)
                self.execute(maker, catalog, version_by(recipe_of(maker.node, catalog), catalog, task.run_id))
        announce(node, catalog, version)
        task.execute()
        self.nodes_run += 1

    def made_before(self, node: Node, catalog: AtomicCatalog, recipe: Recipe) -> dict[str, StoredVersion] | None:
        """Return the node's outputs by the same recipe; None if there are none, or the recipe is incomplete."""
        if not node.outputs or recipe.uncertain or node.name in catalog.records.forced:
            return None
        is_known = not any(is_untracked(name, catalog) for name in node.inputs)
        return catalog.made_before(node.outputs, recipe.key) if is_known else None


class ProcessRunner(PreparingRunner):
    """Runs the functions of nodes in other processes; this one loads, saves and records in threads.

    So hooks are called as by any other runner, and data that are held in memory are those of this process.
    """

    @contextmanager
    def prepared(self, pipeline: Pipeline, workers: int) -> Iterator[Pipeline]:
        """Yield nodes whose functions run in a pool of processes."""
        context = get_context(os.environ.get("KEDRO_MP_CONTEXT") or None)
        package = None if context.get_start_method() == "fork" else project.PACKAGE_NAME
        with ProcessPoolExecutor(workers, context, initializer=begin_worker, initargs=(package,)) as pool:
            if pipeline.nodes:  # all processes begin before there are threads, of whose locks they would have copies
                wait([pool.submit(time.sleep, 0.05) for _ in range(workers)])
            yield Pipeline([in_process(node, pool) for node in pipeline.nodes])


def begin_worker(package: str | None) -> None:
    """Begin a process that ends with this one and, if it is no copy of it, knows the project's package."""
    end_with_parent()
    if package:
        project.configure_project(package)


def in_process(node: Node, pool: ProcessPoolExecutor) -> Node:
    """Return a copy of a node whose function runs in a pool of processes, unless it yields its outputs in parts."""

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        outputs, files = pool.submit(run_noting, node, inputs).result()
        audit.opened.files |= files
        return outputs

    if inspect.isgeneratorfunction(node.func):
        return node
    vars(sent := copy(node))["run"] = run
    return sent


def run_noting(node: Node, inputs: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Run the function of a node; return its outputs and, if this process notes them, the files that it opened."""
    audit.opened.files = set()
    return node.run(inputs), audit.opened.files


def announce(node: Node, catalog: AtomicCatalog, version: StoredVersion) -> None:
    """Have the catalog save the provenance of a node's outputs with them, the record of `version_by`.

    Scratch datasets, such as checkpoints, receive the key of the recipe before they are loaded, so that the node finds
    only its own work by the same recipe.
    """
    assert version.recipe
    key, version = version.recipe.key, replace(version, begun=time.perf_counter())
    catalog.making |= dict.fromkeys(node.outputs, version)
    in_memory = [name for name in node.outputs if is_in_memory(catalog.get(name))]
    if in_memory and not any(is_untracked(name, catalog) for name in node.inputs):
        for name in in_memory:
            catalog.keep_in_memory(name, version)
    for scratch in scratch_of(node, catalog):
        scratch.recipe_key = key
    catalog.announced[node] = version  # last: threads that load the inputs wait for it


def finish(node: Node, catalog: AtomicCatalog) -> None:
    """Remove a node's scratch data, as all of its outputs are saved."""
    catalog.announced.pop(node, None)
    for name in node.outputs:
        catalog.making.pop(name, None)
    if node.name in (forced := catalog.records.forced):
        catalog.records.force(forced - {node.name})
    for scratch in scratch_of(node, catalog):
        scratch.clear()


def scratch_of(node: Node, catalog: AtomicCatalog) -> list[Any]:
    """Return the datasets that keep a node's work for the case of an interruption."""
    return [dataset for name in node.inputs if is_scratch(dataset := catalog.get(name))]
