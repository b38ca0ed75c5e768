"""Interrupted runs: a note that the next run finds, and drafts, which the next run removes."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro_provenance.files.atomic import UNFINISHED, atomic_file
from kedro_provenance.files.scratch import remove_abandoned
from kedro_provenance.run import Run

logger = logging.getLogger(__name__)

FILE = ".running.json"
CHOICES = ("pipeline_names", "tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")


def take_over(run: Run) -> None:
    """Remove what the last run left half done, and leave a note of this one. The run must hold its lock."""
    if run.catalog.resumes:
        logger.info("The last run of this command did not end: what it left is kept where it fits.")
    # Of the layers of Kedro's template, such as 01_raw: the data folder of another environment may lie beside them.
    for leftover in run.data.glob(f"0*/**/{UNFINISHED}*"):
        logger.info("Removing %s: a run ended while it saved there.", leftover)
        shutil.rmtree(leftover, ignore_errors=True)
    remove_abandoned()
    note = {"command": choices(run.params), "runs": [*interrupted_runs(run.data, run.params), run.params["run_id"]]}
    atomic_file(run.data / FILE, json.dumps(note, indent=1).encode())


def forget(run: Run) -> None:
    """Remove the note of a run that has ended well."""
    (run.data / FILE).unlink(missing_ok=True)


def choices(params: Mapping[str, Any]) -> dict[str, Any]:
    """Which nodes a command runs, in which environment."""
    return {name: sorted(params.get(name) or ()) for name in CHOICES} | {"env": params.get("env")}


def interrupted_runs(data: Path, params: Mapping[str, Any]) -> list[str]:
    """The ids of the last runs in a data folder, if they were of the same command and did not end."""
    try:
        note = json.loads((data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return note["runs"] if note.get("command") == choices(params) else []
