"""A plan for kedro-viz: the statuses of its Workflow view, which it reads from a file of a run's events.

What is up to date is shown as successful; what is out of date as failed, the only other status, with the reasons as its
error.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.io.core import is_parameter

from codeprint.paths import files_in
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.plan import Step
from kedro_provenance.recipe import FILE


def viz_events(steps: Sequence[Step], catalog: AtomicCatalog) -> Iterator[dict[str, Any]]:
    """Yield the events that kedro-viz would write of a run whose nodes fail if they are out of date."""
    from kedro_viz.integrations.kedro.hooks_utils import hash_node

    def loaded_or_saved(name: str) -> dict[str, Any]:
        return {"dataset": name, "node_id": hash_node(name), "status": "success"}

    now = datetime.now(UTC).isoformat()
    yield {"event": "before_pipeline_run", "timestamp": now}
    made = {name for step in steps for name in step.node.outputs}
    for name in sorted({name for step in steps for name in step.node.inputs} - made):
        if not is_parameter(name) and catalog.exists(name):
            yield {"event": "after_dataset_loaded", **loaded_or_saved(name)}
    for step in steps:
        about = {"node": step.node.name, "node_id": hash_node(step.node)}
        if step.reasons:
            error = f"Out of date: {'; '.join(step.reasons)}"
            yield {"event": "on_node_error", **about, "error": error, "timestamp": now}
            for name in step.node.outputs:
                yield {"event": "on_pipeline_error", "dataset": name, **about, "error": error, "operation": "saving"}
            continue
        stored = {name: catalog.stored(name) for name in step.node.outputs}
        seconds = max((version.seconds for version in stored.values() if version), default=0.0)
        yield {"event": "after_node_run", **about, "duration": seconds, "status": "success"}
        for name, version in stored.items():
            size = size_of(version.folder) if version and version.folder else 0
            yield {"event": "after_dataset_saved", **loaded_or_saved(name), "size": size}
    if outdated := sum(bool(step.reasons) for step in steps):
        error = f"{outdated} of {len(steps)} nodes are out of date"
        yield {"event": "on_pipeline_error", "error": error, "timestamp": now}
    else:
        yield {"event": "after_pipeline_run", "timestamp": now}


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (files_in(path) if path.is_dir() else [path]) if file.name != FILE)
