"""Stores of results by recipe, in which whoever has the same recipe finds them.

The versions of an output lie in ``<store>/<key of the recipe>/<entry>/<file>/``, each as in a folder of versions.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.scratch import scratch_folder
from kedro_provenance.files.storage import is_remote, names_in
from kedro_provenance.recipe import FILE, StoredVersion, local_versions, read_version
from kedro_provenance.remote_versions import RemoteVersions


@dataclass(frozen=True)
class Store:
    """Results by recipe in a local folder or an object storage."""

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of an object storage
    is_cache: bool = False  # whether it is shared: versions are copies of its files, and `gc --cache` removes some
    is_read_only: bool = False  # whether runs only look there; else they put their results into a cache

    def versions(self, key: str, entry: str, file: str) -> Iterator[StoredVersion]:
        """Yield the versions of an output by the recipe with this key, the newest first, as local copies."""
        place = f"{self.address}/{key}/{entry}/{file}"
        is_local = not is_remote(place)
        yield from local_versions(Path(place), key) if is_local else RemoteVersions(place, self.options).made_by(key)

    def put(self, key: str, entry: str, file: str, folder: Path) -> None:
        """Add a version in a local folder, as a whole, unless there is one by this recipe; raise OSError on failure."""
        place = f"{self.address}/{key}/{entry}/{file}"
        if is_remote(place):
            remote = RemoteVersions(place, self.options)
            if remote.newest is None:
                with scratch_folder() as scratch:
                    remote.upload(copied(folder, Path(scratch, folder.name)), folder.name)
        elif not any(stored.is_intact for stored in self.versions(key, entry, file)):
            with atomic_folder(Path(place, folder.name), shared=True) as draft:
                copied(folder, draft)

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Yield the entry and the address of each folder of versions."""
        for key in names_in(self.address, self.options):
            for entry in names_in(f"{self.address}/{key}", self.options):
                for file in names_in(f"{self.address}/{key}/{entry}", self.options):
                    yield entry, f"{self.address}/{key}/{entry}/{file}"


def copied(folder: Path, copy: Path) -> Path:
    """Copy a version, with the lineage in its record, and return the copy."""
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / FILE).write_bytes(read_version(folder).to_json())
    return copy
