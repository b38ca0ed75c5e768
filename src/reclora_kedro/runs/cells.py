"""Runs of the default flow with settings of their own: the cells of a study.

This lives on the Kedro side, not in a room: each cell has a configuration, pipelines and a catalog of its own, which
its parameters shape. Kedro keeps these once per process, so cells run in processes apart from the session that wants
them; each process runs one cell after another. Nodes are run as `kedro run` runs them; where their outputs lie, and
whether they are run at all, is decided by what they are given, see `reclora_kedro.runs.memo`.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.framework.project import pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from reclora_kedro.files.digests import digest, digest_of_files
from reclora_kedro.runs.catalog import at_local_path
from reclora_kedro.runs.memo import CHECKPOINTS, Memory, Trace
from reclora_kedro.runs.provenance import code_digest, read_of
from reclora_kedro.runs.raw_data import digest_of_entry
from reclora_kedro.study.grid import Cell, merge
from reclora_kedro.study.results import CellRun, Cost

logger = logging.getLogger(__name__)

FOLDER = "data/02_intermediate/study"  # of what the cells' nodes leave, a folder per node and what it was given
CHECKPOINT_STORES = "reclora_kedro.datasets.checkpoint_store."


@dataclass(frozen=True)
class CellRunner:
    """Runs cells in the project, the environment and the runtime parameters of a session.

    Attributes:
        project: folder of the project.
        conf_source: folder of its configuration.
        env: environment; None: the default one.
        runtime_params: what `--params` says.
        parameters: nested blocks of all parameters of the session.
        revision: git revision of the project.
    """

    project: Path
    conf_source: str
    env: str | None
    runtime_params: Mapping[str, Any]
    parameters: Mapping[str, Any]
    revision: str | None

    def run(self, cells: Sequence[Cell], workers: int) -> list[CellRun]:
        """Run what no earlier cell has run, here or in an earlier study.

        Args:
            cells: the cells; the parameters of all are checked before the first one is run.
            workers: processes that run cells; they share the machine's cores and its GPU.

        Raises:
            RuntimeError: a cell failed. What has been finished is kept, and the same command goes on with it.
        """
        workers = min(workers, len(cells))
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=begin, initargs=(self.project, workers))
        with pool:
            try:
                for checked in [pool.submit(check_cell, self, cell) for cell in cells]:
                    checked.result()
                running = {pool.submit(run_cell, self, cell): cell for cell in cells}
                for number, future in enumerate(as_completed(running), start=1):
                    run = future.result()
                    logger.info(
                        "Cell %d of %d: %s. %.0f s, %d of %d nodes run.",
                        *(number, len(cells), running[future], run.seconds, run.nodes_run, run.nodes),
                    )
                return [future.result() for future in running]
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "A process that ran cells died. If it printed no reason above, it was killed, most likely for want "
                    "of memory: lower study.workers. What had been finished is kept, and the same command goes on."
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def begin(project: Path, workers: int) -> None:
    """What each process does first: end with the session, find the project, and take its share of the cores."""
    import torch

    from reclora_kedro.finetuning.processes import end_with_parent

    end_with_parent()
    os.chdir(project)
    bootstrap_project(project)
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def check_cell(runner: CellRunner, cell: Cell) -> None:
    """Refuse a cell whose parameters are refused.

    Raises:
        RuntimeError: they are.
    """
    try:
        open_cell(runner, cell)
    except Exception as error:
        raise RuntimeError(f"The cell {cell} cannot be run, so none was: {error}") from error


def run_cell(runner: CellRunner, cell: Cell) -> CellRun:
    """Run those nodes of a cell that have not been run with the same parameters and inputs.

    Raises:
        RuntimeError: one of them failed.
    """
    start = time.perf_counter()
    try:
        flow, catalog = open_cell(runner, cell)
        memoized = MemoizedRun(catalog, runner.project / FOLDER, runner.revision)
        for node in flow.nodes:
            memoized.run(node)
        return memoized.results(flow, cell.outputs, time.perf_counter() - start)
    except Exception as error:
        raise RuntimeError(
            f"The cell {cell} failed: {error}\nWhat had been finished is kept, and the same command goes on with it."
        ) from error


def open_cell(runner: CellRunner, cell: Cell) -> tuple[Pipeline, DataCatalog]:
    """The default flow up to its metrics, and the catalog, for the parameters of a cell."""
    there = configuration_of(runner, runner.runtime_params, cell.seed)["parameters"]
    runtime_params = merge(runner.runtime_params, cell.parameters(there))
    loader = configuration_of(runner, runtime_params, cell.seed)
    bootstrap_project(runner.project)  # Kedro then builds the pipelines again, of these parameters
    hook_manager = _create_hook_manager()
    _register_hooks(hook_manager, settings.HOOKS)
    context = settings.CONTEXT_CLASS(
        package_name="reclora_kedro",
        project_path=runner.project,
        config_loader=loader,
        env=runner.env,
        hook_manager=hook_manager,
        runtime_params=runtime_params,
    )
    hook_manager.hook.after_context_created(context=context)
    return pipelines["__default__"].to_outputs(*cell.outputs), context._get_catalog(settings.DATA_CATALOG_CLASS)


def configuration_of(runner: CellRunner, runtime_params: Mapping[str, Any], seed: int) -> OmegaConfigLoader:
    """The project's configuration with runtime parameters and a seed, which parameters take as ``${globals:seed}``."""
    loader = OmegaConfigLoader(
        runner.conf_source, env=runner.env, runtime_params=dict(runtime_params), **settings.CONFIG_LOADER_ARGS
    )
    loader["globals"] = {**loader["globals"], "seed": seed}
    return loader


class MemoizedRun:
    """Runs the nodes of one cell, unless they have been run with the same parameters and inputs.

    Args:
        catalog: the catalog of the cell. Outputs are stored as it says, in a folder of the node.
        folder: where these folders lie.
        revision: git revision of the code, which traces keep.
    """

    def __init__(self, catalog: DataCatalog, folder: Path, revision: str | None) -> None:
        self._catalog, self._folder, self._revision = catalog, folder, revision
        self._entries: dict[str, dict[str, Any]] = {}  # of what nodes left: the catalog's, moved to the node's folder
        self._digests: dict[str, str] = {}  # of all that nodes read
        self._traces: dict[str, tuple[str, Trace]] = {}  # by the output, the key and the trace of its node
        self._nodes_run = 0

    def run(self, node: Node) -> None:
        """Run a node, or take what it left when it was run with the same parameters and inputs."""
        inputs = {name: self._digest(node, name) for name in node.inputs if not self._is_checkpoints(name)}
        key = digest([node.name, code_digest(node.func), inputs, node.outputs])
        memory = Memory(self._folder / key)
        self._entries |= {name: moved(name, self._entry(name), memory.folder / name) for name in node.outputs}
        trace = memory.trace()
        if trace is None:
            with memory.lock():
                trace = memory.trace() or self._make(node, inputs, memory)
        self._digests |= trace.outputs
        self._traces |= dict.fromkeys(node.outputs, (key, trace))

    def results(self, flow: Pipeline, outputs: Sequence[str], seconds: float) -> CellRun:
        """What the cell reached, once all of its nodes were run."""
        metrics, *others = (self._load(name) for name in outputs)
        comparisons, attribution = others or ([], [])
        traces = {trace.node: trace for _, trace in self._traces.values()}
        revisions = tuple(sorted({trace.revision or "unknown" for trace in traces.values()}))
        return CellRun(
            metrics=metrics,
            comparisons=comparisons,
            attribution=attribution,
            costs={record["model"]: self._cost(record) for record in metrics},
            digest=self._traces[outputs[0]][0],
            revisions=revisions,
            nodes=len(flow.nodes),
            nodes_run=self._nodes_run,
            seconds=seconds,
        )

    def _make(self, node: Node, inputs: dict[str, str], memory: Memory) -> Trace:
        logger.info("%s runs in %s.", node.name, memory.folder)
        memory.clear()
        own = {name: self._entry(name) for name in node.inputs if self._is_checkpoints(name)}
        own = {name: at_local_path(entry, memory.folder / CHECKPOINTS) for name, entry in own.items()}
        catalog = self._catalog_of([*node.inputs, *node.outputs], own)
        start = time.perf_counter()
        SequentialRunner().run(Pipeline([node]), catalog)
        seconds = time.perf_counter() - start
        outputs = {name: digest_of_files(memory.folder / name) for name in node.outputs}
        trace = Trace(node.name, inputs, outputs, seconds, self._revision)
        memory.keep(trace)
        self._nodes_run += 1
        return trace

    def _digest(self, node: Node, name: str) -> str:
        """Digest of an input: of the fields of a block that the node reads, or of a raw file or an output."""
        if is_parameter(name):
            return digest(read_of(node, name, self._catalog.load(name)))
        if name not in self._digests:
            self._digests[name] = digest_of_entry(self._entry(name))
        return self._digests[name]

    def _entry(self, name: str) -> dict[str, Any]:
        """Configuration of a catalog entry; where a node of this cell left it, in the folder of that node."""
        return self._entries.get(name) or self._catalog.config_resolver.resolve_pattern(name)

    def _is_checkpoints(self, name: str) -> bool:
        return not name.startswith("param") and str(self._entry(name).get("type")).startswith(CHECKPOINT_STORES)

    def _catalog_of(self, names: Sequence[str], own: dict[str, dict[str, Any]]) -> DataCatalog:
        parameters = [name for name in names if is_parameter(name)]
        entries = {name: self._entry(name) for name in names if name not in parameters} | own
        catalog = settings.DATA_CATALOG_CLASS.from_config(entries)
        for name in parameters:
            catalog[name] = self._catalog.load(name)
        return catalog

    def _load(self, name: str) -> Any:
        return self._catalog_of([name], {}).load(name)

    def _cost(self, record: Mapping[str, Any]) -> Cost:
        """What a model with these metrics took, by what it leaves: {model}.scores or {model}_scores, and so on.

        Where the flow ends at the lens, its metrics are made from scores that are not kept.
        """
        model = record["model"]
        trained, scored = (
            next((name for name in (f"{model}.{what}", f"{model}_{what}") if name in self._traces), None)
            for what in ("training_log", "scores")
        )
        scoring = self._traces[scored or "lens_metrics"][1]
        tables = [name for name in scoring.outputs if name.endswith("scores")]
        log = self._load(trained) if trained else None
        return Cost(
            train_seconds=self._traces[trained][1].seconds if trained else None,
            score_seconds=scoring.seconds,
            scored_rows=sum(self._load(name).height for name in tables) if scored else record["rows"],
            validation_auc=None if log is None else log["validation_auc"].max(),
        )


def moved(name: str, entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration of an entry that is stored in a local folder, without versions: the folder stands for one.

    Raises:
        ValueError: it is not stored in a file.
    """
    if "filepath" not in entry:
        raise ValueError(f"The catalog entry {name} has no filepath, so a study cannot keep what its node leaves.")
    filepath = folder / Path(entry["filepath"]).name
    return {key: value for key, value in at_local_path(entry, filepath).items() if key != "versioned"}
