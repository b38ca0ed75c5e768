"""Interrupted runs: a note for the next run, and drafts that it removes."""

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
    """Remove leftovers of the last run, and write a note of this one; the run must hold its lock."""
    if run.catalog.resumes:
        logger.info("The last run of this command was killed: its results are kept where they fit.")
    # Of the layers of Kedro's template, such as 01_raw: the data folder of another environment may lie beside them.
    for leftover in run.data.glob(f"0*/**/{UNFINISHED}*"):
        logger.info("Removing %s: a run was interrupted while it saved there.", leftover)
        shutil.rmtree(leftover, ignore_errors=True)
    note = {"command": choices(run.params), "runs": [*interrupted_runs(run.data, run.params), run.params["run_id"]]}
    remove_abandoned()
    atomic_file(run.data / FILE, json.dumps(note, indent=1).encode())


def forget(run: Run) -> None:
    """Remove the note of a run that has ended well."""
    (run.data / FILE).unlink(missing_ok=True)


def note_failure(run: Run) -> None:
    """Note that a run has failed, so that the same command makes all again, as without this plug-in."""
    note = _read_note(run.data)
    if note.get("runs", [None])[-1] == run.params["run_id"]:
        atomic_file(run.data / FILE, json.dumps(note | {"failed": True}, indent=1).encode())


def was_killed(data: Path, params: Mapping[str, Any]) -> bool:
    """Whether the last run in a data folder had the same command, and neither ended well nor failed by an error."""
    return bool(interrupted_runs(data, params)) and not _read_note(data).get("failed")


def choices(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes and the environment of a command."""
    return {name: sorted(params.get(name) or ()) for name in CHOICES} | {"env": params.get("env")}


def interrupted_runs(data: Path, params: Mapping[str, Any]) -> list[str]:
    """Return the ids of the last runs in a data folder, if they had the same command and did not end well."""
    note = _read_note(data)
    return note["runs"] if note.get("command") == choices(params) else []


def _read_note(data: Path) -> dict[str, Any]:
    try:
        note = json.loads((data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
