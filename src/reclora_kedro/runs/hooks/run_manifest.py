"""Runs leave a manifest."""

import hashlib
import logging
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Node, Pipeline

from reclora_kedro.files.digests import digest
from reclora_kedro.files.storage import is_remote, states, storage_options
from reclora_kedro.runs.catalog import AtomicCatalog, local_path

logger = logging.getLogger(__name__)

PACKAGES = ("kedro", "kedro-datasets", "numpy", "peft", "polars", "scikit-learn", "torch", "transformers")


class RunManifestHooks:
    """Logs each node that ran, and saves `run_manifest`: what a result was made from, and with what."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the session's parameters for the manifest."""
        self._start = time.time()
        # Of nodes that really ran: a run may leave out those whose outputs are there.
        self._seconds: dict[Node, float] = {}  # nodes that ran: those whose outputs are there may be left out
        self._saved: set[str] = set()
        self._parameters = context.config_loader["parameters"]
        self._project = Path(context.project_path)

    @hook_impl
    def before_node_run(self) -> None:
        """Start the clock: the inputs are loaded."""
        self._node_start = time.time()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Note a node that ran."""
        self._note(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Count the time of saving an output among its node's."""
        self._saved.add(dataset_name)
        self._note(node)

    def _note(self, node: Node) -> None:
        self._seconds[node] = time.time() - self._node_start
        if self._saved.issuperset(node.outputs):
            saved = f"saved {', '.join(node.outputs)}" if node.outputs else ""
            logger.info("%-36s %8.1f s  %s", node.name, self._seconds[node], saved)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: AtomicCatalog) -> None:
        """Save the manifest of a run that succeeded."""
        pipeline = Pipeline(self._seconds)
        manifest = {
            "run_id": run_params["run_id"],
            "environment": run_params["env"],
            "pipelines": run_params["pipeline_names"] or ["__default__"],
            "nodes": {node.name: round(seconds, 1) for node, seconds in self._seconds.items()},
            "seconds": round(time.time() - self._start, 1),
            "seed": self._parameters["history"]["seed"],
            "parameters": self._parameters,
            "mixed": catalog.mixed,
            "loaded": describe_entries(catalog, pipeline.inputs()),
            "saved": describe_entries(catalog, pipeline.all_outputs()),
            "git_revision": git_revision(self._project),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "packages": {name: version(name) for name in PACKAGES},
        }
        catalog.save("run_manifest", manifest)


def describe_entries(catalog: DataCatalog, names: set[str]) -> dict[str, str]:
    """For each stored entry the version in use or, where it has none, a digest of its file or its object's state."""
    described = {}
    for name in sorted(names):
        dataset, entry = catalog.get(name), catalog.config_resolver.resolve_pattern(name)
        file = local_path(dataset)
        if isinstance(dataset, AbstractVersionedDataset) and (loaded := dataset.resolve_load_version()):
            described[name] = f"version {loaded}"
        elif file is not None and file.is_file():
            with file.open("rb") as stream:
                described[name] = f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"
        elif isinstance(dataset, AbstractVersionedDataset) and is_remote(entry.get("filepath")):
            described[name] = f"state {digest(states(entry['filepath'], storage_options(entry)))}"
    return described


def git_revision(project: Path) -> str | None:
    """Commit of the project's checkout, with "+changes" when files differ from it; None outside of git."""
    command = ["git", "-C", str(project), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
