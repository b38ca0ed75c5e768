"""The cells of a study: runs of pipelines with parameters of their own, which share common results.

Each cell has its own configuration, pipelines and catalog. Kedro keeps these once per process, so cells run in other
processes than their session; each process runs one cell after another. The outputs of a node are in a folder named by
the key of its recipe, so that no run of the project takes them for its newest versions; outputs of runs of the project
with the same recipe are reused.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from filelock import lock_descriptor
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.io.core import generate_timestamp
from kedro.pipeline import Pipeline
from kedro.runner.task import Task

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_scratch
from kedro_provenance.kedro_internals import catalog_of, open_context
from kedro_provenance.plan import recipe_of
from kedro_provenance.run import Checks, Run
from kedro_provenance.runner import IncrementalRunner
from reclora_kedro.distributed.engine import process_pool

logger = logging.getLogger(__name__)
R = TypeVar("R")
Cell: TypeAlias = Any  # a `study.grid.Cell`, which is of a layer above

FOLDER = "02_intermediate/study"  # folder of the outputs of cells, in that of the data: a store of results by recipe


@dataclass(frozen=True)
class FinishedCell:
    """A cell whose nodes have all been run, by it or before."""

    outputs: Sequence[str]  # that it was run for
    flow: Pipeline  # its nodes
    catalog: AtomicCatalog  # loads their outputs and recipes
    nodes_run: int  # by this cell
    seconds: float  # of its run


@dataclass(frozen=True)
class CellRunner:
    """Runs cells in the project, the environment and the runtime parameters of a session."""

    project: Path
    cells: Path  # folder of the outputs of cells
    conf_source: str  # folder of the project's configuration
    env: str | None
    runtime_params: Mapping[str, Any]  # of `--params`
    parameters: Mapping[str, Any]  # nested blocks of all parameters of the session
    revision: str | None  # of the project in git
    checks: Sequence[Checks]  # of nodes, before any cell is run

    def run(self, cells: Sequence[Cell], result: Callable[[Any], R], workers: int) -> list[R]:
        """Run the nodes that no earlier cell or run has run, in processes that share the machine's cores and its GPU.

        Parameters and requirements of all cells are checked before the first one runs; `result` is called with each
        `FinishedCell` in the process that has run it. RuntimeError is raised for a cell that failed; finished nodes are
        kept, and the same command continues.
        """
        with self.processes(min(workers, len(cells))) as pool:
            for checked in [pool.submit(check_cell, self, cell) for cell in cells]:
                checked.result()
            running = {pool.submit(run_cell, self, cell, result): cell for cell in cells}
            for number, future in enumerate(as_completed(running), start=1):
                _, summary = future.result()
                logger.info("Cell %d of %d: %s. %s", number, len(cells), running[future], summary)
            return [future.result()[0] for future in running]

    @contextmanager
    def processes(self, workers: int) -> Iterator[ProcessPoolExecutor]:
        """Give processes that check and run cells; raise RuntimeError if a cell failed, or a process died."""
        try:
            with process_pool(workers, begin, self.project) as pool:
                yield pool
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that ran cells died. If it printed no reason above, it was killed, most likely because "
                "memory ran out: lower study.workers. Finished results are kept. The same command continues from them."
            ) from error
        except RuntimeError as error:  # of a process; raised here, it is the project's own, without a stack trace
            raise RuntimeError(str(error)) from error


def cell_runner(run: Run) -> CellRunner:
    """Return the runner of the default flow with other parameters, in a run's project and environment."""
    loader = run.context.config_loader
    return CellRunner(
        project=run.project,
        cells=run.data / FOLDER,
        conf_source=str(loader.conf_source),
        env=run.context.env,
        runtime_params=loader.runtime_params or {},
        parameters=run.parameters,
        revision=run.revision,
        checks=run.checks,
    )


def begin(project: Path) -> None:
    """Bootstrap the project in a process that runs cells."""
    os.chdir(project)
    bootstrap_project(project)


def check_cell(runner: CellRunner, cell: Cell) -> None:
    """Raise RuntimeError for a cell with wrong parameters, or nodes that would fail."""
    try:
        flow, catalog = open_cell(runner, cell)
        for check in chain.from_iterable(checks(flow, catalog) for checks in runner.checks):
            check()
    except Exception as error:
        raise RuntimeError(f"The cell {cell} cannot be run, so no cell was run: {error}") from error


def run_cell(runner: CellRunner, cell: Cell, result: Callable[[Any], R]) -> tuple[R, str]:
    """Run the nodes of a cell that have not been run by the same recipe; return the result and a sentence about it."""
    start = time.perf_counter()
    try:
        flow, catalog = open_cell(runner, cell)
        nodes = NodeRunner(runner.cells)
        nodes.run(flow, catalog, run_id=generate_timestamp(), only_missing_outputs=True)
        finished = FinishedCell(cell.outputs, flow, catalog, nodes.nodes_run, time.perf_counter() - start)
        return result(finished), f"{finished.seconds:.0f} s, {nodes.nodes_run} of {len(flow.nodes)} nodes run."
    except Exception as error:
        raise RuntimeError(
            f"The cell {cell} failed: {error}\nFinished results are kept. The same command continues from them."
        ) from error


def open_cell(runner: CellRunner, cell: Cell) -> tuple[Pipeline, AtomicCatalog]:
    """Return the flow of a cell's pipelines up to its outputs, and the catalog, for its parameters."""
    given = configuration_of(runner, runner.runtime_params, cell)["parameters"]
    loader = configuration_of(runner, cell.runtime_params(given, runner.runtime_params), cell)
    bootstrap_project(runner.project)  # Kedro then builds the pipelines again, of these parameters
    context = open_context(loader, runner.project, runner.env)
    catalog: Any = catalog_of(context, settings.DATA_CATALOG_CLASS)
    catalog.revision = runner.revision
    flow = sum((pipelines[name] for name in cell.pipelines), start=Pipeline([]))
    return flow.to_outputs(*cell.outputs), catalog


def configuration_of(runner: CellRunner, runtime_params: Mapping[str, Any], cell: Cell) -> OmegaConfigLoader:
    """Return the project's configuration with runtime parameters and the cell's globals."""
    loader = settings.CONFIG_LOADER_CLASS(
        runner.conf_source, env=runner.env, runtime_params=dict(runtime_params), **settings.CONFIG_LOADER_ARGS
    )
    loader["globals"] = {**loader["globals"], "seed": cell.seed}
    return loader


class NodeRunner(IncrementalRunner):
    """Runs the nodes of a cell unless they have been run by the same recipe; `folder` has a subfolder per recipe."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run_node(self, task: Task, catalog: AtomicCatalog) -> None:
        """Reuse the outputs of a run of the project, or find or make them in the node's folder."""
        node, recipe = task.node, recipe_of(task.node, catalog)
        if made := self.made_before(node, catalog, recipe):
            catalog.pin({name: stored.version for name, stored in made.items()})
            return
        place = self.folder / recipe.key
        for name in (*node.outputs, *node.inputs):
            if name in node.outputs or is_scratch(catalog.get(name)):
                catalog.move(name, place / name)
        with one_at_a_time(place):
            super().run_node(task, catalog)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; the operating system releases the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        lock_descriptor(file.fileno())
        yield
