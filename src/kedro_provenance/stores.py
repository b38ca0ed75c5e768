"""Stores of results by recipe, in which whoever has the same recipe finds them.

The versions of an output lie in ``<store>/<key of the recipe>/<entry>/<file>/``, each as in a folder of versions.
"""

import hmac
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.scratch import scratch_folder
from kedro_provenance.files.storage import is_remote, names_in
from kedro_provenance.recipe import FILE, StoredVersion, local_versions, read_version
from kedro_provenance.remote_versions import RemoteVersions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """Results by recipe in a local folder or an object storage."""

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of an object storage
    is_cache: bool = False  # whether it is shared: versions are copies of its files, and `gc --cache` removes some
    is_read_only: bool = False  # whether runs only look there; else they put their results into a cache
    secret: str = field(default="", repr=False)  # signs what is put there, and nothing else is taken; empty for none

    def versions(self, key: str, entry: str, file: str) -> Iterator[StoredVersion]:
        """Yield the versions of an output by the recipe with this key, the newest first, as local copies."""
        place = f"{self.address}/{key}/{entry}/{file}"
        if is_remote(place):
            yield from RemoteVersions(place, self.options).made_by(key, lambda stored: self._trusts(place, stored))
        else:
            yield from (stored for stored in local_versions(Path(place), key) if self._trusts(place, stored))

    def put(self, key: str, entry: str, file: str, folder: Path) -> None:
        """Add a version in a local folder, as a whole, unless there is one by this recipe; raise OSError on failure."""
        place = f"{self.address}/{key}/{entry}/{file}"
        if is_remote(place):
            remote = RemoteVersions(place, self.options)
            if not any(self._trusts(place, remote.stored(version)) for version in remote.all()):
                with scratch_folder() as scratch:
                    remote.upload(self._copied(folder, Path(scratch, folder.name), place), folder.name)
        elif not any(stored.is_intact for stored in self.versions(key, entry, file)):
            with atomic_folder(Path(place, folder.name), shared=True) as draft:
                self._copied(folder, draft, place)

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Yield the entry and the address of each folder of versions."""
        for key in names_in(self.address, self.options):
            for entry in names_in(f"{self.address}/{key}", self.options):
                for file in names_in(f"{self.address}/{key}/{entry}", self.options):
                    yield entry, f"{self.address}/{key}/{entry}/{file}"

    def _copied(self, folder: Path, copy: Path, place: str) -> Path:
        """Copy a version, with the lineage in its record and the signature, and return the copy."""
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        stored = read_version(folder)
        signature = self._signature(place, stored).decode() if self.secret else ""
        (copy / FILE).write_bytes(replace(stored, signature=signature).to_json())
        return copy

    def _trusts(self, place: str, stored: StoredVersion) -> bool:
        """Whether a version was put in a place, as it is recorded there, by who has the secret; True without one."""
        if not self.secret or hmac.compare_digest(str(stored.signature).encode(), self._signature(place, stored)):
            return True
        logger.warning(
            "%s/%s is not taken: it is not signed by the `key` of the cache in credentials.yml, so anyone may have put "
            "it there.",
            place,
            stored.version,
        )
        return False

    def _signature(self, place: str, stored: StoredVersion) -> bytes:
        """Return the HMAC-SHA256 of where a version lies and of its record, which has the digest of its files."""
        said = [place.removeprefix(self.address), stored.version, replace(stored, signature="").recorded()]
        return hmac.new(self.secret.encode(), json.dumps(said).encode(), "sha256").hexdigest().encode()
