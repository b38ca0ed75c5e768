"""The folder of records: of data in no local file, of nodes that leave nothing stored, and of lineage."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from kedro.io import AbstractDataset, DatasetError

from kedro_provenance.datasets import is_in_memory, is_scratch, is_versioned, unversioned_path
from kedro_provenance.files.atomic import atomic_file
from kedro_provenance.files.digests import digest
from kedro_provenance.lineage import LINEAGE
from kedro_provenance.recipe import FILE, Recipe, StoredVersion, parse_version, read_record

FOLDER = ".provenance"  # in the data folder
FORCED, AUDIT = "forced.json", "audit.json"
_noting = Lock()  # nodes in several threads note what they opened


@dataclass(frozen=True)
class Records:
    """The records in a folder; without one, outside of runs, nothing is recorded there."""

    folder: Path | None = None

    @property
    def lineage(self) -> Path | None:
        """Folder of the descriptions of ancestors; without one, records have them."""
        return self.folder / LINEAGE if self.folder else None

    @property
    def forced(self) -> set[str]:
        """Names of the nodes that the next run runs whatever fits, see ``kedro provenance force``."""
        file = self.folder / FORCED if self.folder else None
        return {*json.loads(file.read_bytes())} if file and file.exists() else set()

    def force(self, nodes: set[str]) -> None:
        """Have the next run run these nodes, whatever fits."""
        if self.folder:
            atomic_file(self.folder / FORCED, json.dumps(sorted(nodes)).encode())

    @property
    def audit(self) -> dict[str, list[str]]:
        """Files that nodes opened and their recipes lack, see `kedro_provenance.audit`."""
        file = self.folder / AUDIT if self.folder else None
        return json.loads(file.read_bytes()) if file and file.exists() else {}

    def note_audit(self, node: str, files: list[str]) -> None:
        with _noting:
            if self.folder and files != self.audit.get(node, []):
                atomic_file(self.folder / AUDIT, json.dumps(self.audit | {node: files}).encode())

    def last_run(self, node: str) -> Recipe | None:
        """Return the recipe by which a node last ran that leaves nothing stored; None if none is recorded."""
        file = self._file_of_node(node)
        stored = read_record(file, lambda: "") if file else None
        return stored.recipe if stored else None

    def note_run(self, node: str, made: StoredVersion) -> None:
        """Record by what recipe a node has run that leaves nothing stored."""
        if file := self._file_of_node(node):
            self.write(file, made)

    def write(self, file: Path, made: StoredVersion) -> None:
        atomic_file(file, made.to_json(file.parent, self.lineage))

    def begin(self, record: Path, making: StoredVersion, made: Iterable[str]) -> set[str]:
        """Note that partitions are being written, and return all that may lie there; raise DatasetError for others."""
        given = making.partitions.keys() - making.kept
        if foreign := sorted({*map(str, made)} - given):
            found, expected = (", ".join(names[:6]) or "none" for names in (foreign, sorted(given)))
            raise DatasetError(
                f"A function declared by_partition returned the partitions {found}, and was given {expected}. Nothing "
                "was written. Have it return what it makes of each by its name, or remove the decorator."
            )
        before = parse_version(record.read_bytes() if record.exists() else b"", "").partitions
        self.write(record, replace(making, content="", partitions={**before, **making.partitions}))
        return {*before, *making.partitions}

    def file_of(self, name: str, dataset: AbstractDataset | None) -> Path | None:
        """Return the file of the record of data without versions; None for data in memory and for versions."""
        if is_in_memory(dataset) or is_versioned(dataset) or is_scratch(dataset):
            return None
        if path := unversioned_path(dataset):
            return path.with_name(f".{path.name}.{FILE}")  # hidden, next to the file
        return self.folder / f"{name}.json" if self.folder else None

    def _file_of_node(self, node: str) -> Path | None:
        return self.folder / f"node-{digest(node)}.json" if self.folder else None
