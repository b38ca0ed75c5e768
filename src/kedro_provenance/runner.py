"""The runner of the project: Kedro's, which notes what each node's outputs are made of, and keeps what fits."""

import logging
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro.runner.task import Task

from kedro_provenance.catalog import AtomicCatalog, is_scratch
from kedro_provenance.plan import is_untracked, reasons_to_run, recipe_of, version_by
from kedro_provenance.recipe import Recipe, StoredVersion

logger = logging.getLogger(__name__)

CELLS = "02_intermediate/study"  # of what the cells of studies leave, in the data folder; a folder per recipe


class IncrementalRunner(SequentialRunner):
    """Runs nodes one after the other; with ``only_missing_outputs``, those alone whose outputs do not fit.

    Whether they fit shows when the node's turn comes: a node whose inputs have come out as they were is not run
    ("early cutoff" in Mokhov, Mitchell and Peyton Jones, "Build systems à la carte", ICFP 2018). What a node left when
    it was interrupted goes by the key of its recipe, and goes once all of its outputs are there.

    Args:
        is_async: load and save in threads.
        revision: git revision of the code, for what is stored.
        cells: folder of what the cells of studies left, which is taken where a run would make it by the same recipe.
    """

    def __init__(self, is_async: bool = False, revision: str | None = None, cells: Path | None = None) -> None:
        super().__init__(is_async=is_async)
        self.revision, self.cells = revision, cells
        self.keeps = False
        self.nodes_run = 0

    def __str__(self) -> str:
        """What Kedro tells hooks of the runner, and no more; kedro-viz tracks runs in which it finds Kedro's name."""
        return f"{type(self).__name__}, a {SequentialRunner.__module__}.{SequentialRunner.__name__} object"

    def _filter_pipeline_for_missing_outputs(self, pipeline: Pipeline, catalog: Any) -> Pipeline:
        """Kedro's own way looks at existence alone, before any node has run."""
        self.keeps = True
        return pipeline

    def _run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None) -> None:
        done: set[Node] = set()
        loads_left = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        for node in cheap_first(pipeline):
            task = Task(node, catalog, self._is_async, hook_manager, run_id)
            try:
                self.run_or_keep(task, catalog)
            except Exception:
                if done:  # the first node's error tells all: to repeat the command would not help
                    self._suggest_resume_scenario(pipeline, done, catalog)
                raise
            done.add(node)
            self._release_datasets(node, catalog, loads_left, pipeline)

    def run_or_keep(self, task: Task, catalog: AtomicCatalog) -> None:
        """Run a node, or keep what it left."""
        node, recipe = task.node, recipe_of(task.node, catalog)
        reasons = list(dict.fromkeys(reasons_to_run(node, catalog))) if self.keeps else []
        if self.keeps and not reasons:
            logger.info("%s is kept: what it left fits.", node.name)
        elif self.keeps and (made := self.made_before(node, catalog, recipe)):
            logger.info("%s is not run: what it left before, by the same recipe, is taken.", node.name)
            self.announce(task, catalog, recipe)
            catalog.take(made)
        else:
            if reasons and node.outputs:
                logger.info("%s runs: %s", node.name, "; ".join(reasons))
            self.announce(task, catalog, recipe)
            task.execute()
            self.nodes_run += 1
        for scratch in scratch_of(node, catalog):
            scratch.clear()

    def made_before(self, node: Node, catalog: AtomicCatalog, recipe: Recipe) -> dict[str, StoredVersion] | None:
        """What the node left when it ran by the same recipe; None if it did not, or if its recipe does not say all."""
        if not node.outputs or any(is_untracked(name, catalog) for name in node.inputs):
            return None
        return catalog.made_before(node.outputs, recipe.key, self.cells)

    def announce(self, task: Task, catalog: AtomicCatalog, recipe: Recipe) -> None:
        """Have what is saved next tell of the node's recipe, and what is left if it is interrupted, too."""
        catalog.begun = time.perf_counter()
        catalog.making = dict.fromkeys(task.node.outputs, version_by(recipe, catalog, task.run_id, self.revision))
        for scratch in scratch_of(task.node, catalog):
            scratch.recipe_key = recipe.key


def cheap_first(pipeline: Pipeline) -> list[Node]:
    """The nodes in the order in which they run: one that wants a GPU waits for all others that do not wait for it.

    What refuses a run, such as a log that cannot be split, does so before the hours of an LLM.
    """
    left, needed, ordered = list(pipeline.nodes), pipeline.node_dependencies, []
    while left:
        ready = [node for node in left if needed[node].isdisjoint(left)]
        ordered.append(next((node for node in ready if "gpu" not in node.tags), ready[0]))
        left.remove(ordered[-1])
    return ordered


def scratch_of(node: Node, catalog: AtomicCatalog) -> list[Any]:
    """The datasets that give a node what it left when it was interrupted."""
    return [dataset for name in node.inputs if is_scratch(dataset := catalog.get(name))]
