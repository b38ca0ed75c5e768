"""Nodes that the next run runs whatever fits, see ``kedro provenance force``."""

import json
from pathlib import Path

from kedro_provenance.files.atomic import atomic_file

FILE = "forced.json"


def forced_nodes(records: Path | None) -> set[str]:
    """Return the names of the nodes.

    Args:
        records: folder of the data folder's records.
    """
    file = records / FILE if records else None
    return {*json.loads(file.read_bytes())} if file and file.exists() else set()


def force(records: Path | None, node: str) -> None:
    """Have a node run next time."""
    _write(records, forced_nodes(records) | {node})


def unforce(records: Path | None, node: str) -> None:
    """Note that a node has run."""
    if node in (nodes := forced_nodes(records)):
        _write(records, nodes - {node})


def _write(records: Path | None, nodes: set[str]) -> None:
    assert records
    atomic_file(records / FILE, json.dumps(sorted(nodes)).encode())
