"""What a run that did not end leaves: word of it for the next one, and drafts, which the next one removes."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.files.atomic import UNFINISHED, atomic_file
from reclora_kedro.runs.catalog import AtomicCatalog

logger = logging.getLogger(__name__)

FILE = "data/.running.json"
CHOICES = ("pipeline_names", "tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")


class UnfinishedRunHooks:
    """Notes the run while it lasts, and removes what the one before it left half done."""

    @hook_impl(trylast=True)  # after the lock: what others write at this moment is no leftover
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: AtomicCatalog) -> None:
        """Remove leftovers, and leave word of this run."""
        project = Path(run_params["project_path"])
        if was_unfinished(project, run_params):
            logger.info("The last run of this command did not end: what it left is kept where it fits.")
        for leftover in (project / "data").rglob(f"{UNFINISHED}*"):
            logger.info("Removing %s: a run ended while it saved there.", leftover)
            shutil.rmtree(leftover, ignore_errors=True)
        if run_params["only_missing_outputs"]:
            for node in pipeline.nodes:
                for name in node.inputs if catalog.outdated.isdisjoint(node.outputs) else ():
                    if isinstance(catalog.get(name), CheckpointStoreDataset):
                        catalog.load(name).clear()  # its adapter is saved
        self._file = project / FILE
        atomic_file(self._file, json.dumps(choices(run_params), indent=1).encode())

    @hook_impl
    def after_pipeline_run(self) -> None:
        """The run has ended well."""
        self._file.unlink(missing_ok=True)


def choices(run_params: Mapping[str, Any]) -> dict[str, Any]:
    """Which nodes a command runs, in which environment."""
    return {name: sorted(run_params.get(name) or ()) for name in CHOICES} | {"env": run_params.get("env")}


def was_unfinished(project: Path, run_params: Mapping[str, Any]) -> bool:
    """Whether the last run in a project was the same command, and did not end."""
    try:
        return json.loads((project / FILE).read_text(encoding="utf-8")) == choices(run_params)
    except (OSError, ValueError):
        return False
