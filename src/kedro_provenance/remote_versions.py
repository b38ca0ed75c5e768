"""Versions in an object storage: complete once their marker exists, and read from copies in the user's cache."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from codeprint.files import private_cache
from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import StorageError, download, exists, names_in, read, remove, states, storage_at
from kedro_provenance.recipe import FILE, StoredVersion, content_of, parse_version

logger = logging.getLogger(__name__)

MARKER = "_SUCCESS"  # what Hadoop and Spark leave, too, in a folder that is complete
STARTED = "_STARTED"  # what tells an unfinished upload from what others keep there
LEFTOVER = timedelta(days=1)  # what was begun so long ago is no upload of another machine that still goes on


class RemoteVersions:
    """The versions of one catalog entry in an object storage, each a folder of objects.

    A version exists once its marker, which is uploaded last, exists. Versions never change: each is fetched once to the
    user's cache, where datasets read local files. The newest version is found once, or is the one saved here, so that a
    run reads nothing that other machines save meanwhile. Every method raises a StorageError if the storage cannot be
    used, whose options :mod:`kedro_provenance.files.storage` explains.
    """

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.address, self.options = address.rstrip("/"), options
        protocol, _, path = self.address.partition("://")
        self.folder = private_cache("kedro-provenance") / "versions" / protocol / path.lstrip("/")
        self._whole: set[str] = set()  # versions whose marker was seen
        self._stored: dict[str, StoredVersion] = {}

    @cached_property
    def newest(self) -> str | None:
        """The newest version; None if there is none."""
        return next((version for version in self._names() if self.has(version)), None)

    def all(self) -> list[str]:
        """All versions, newest first."""
        names = self._names()
        with ThreadPoolExecutor() as pool:
            return [name for name, is_whole in zip(names, pool.map(self.has, names), strict=True) if is_whole]

    def has(self, version: str) -> bool:
        if version not in self._whole and exists(f"{self.address}/{version}/{MARKER}", self.options):
            self._whole.add(version)
        return version in self._whole

    def stored(self, version: str) -> StoredVersion:
        """Return the record of a version."""
        if version not in self._stored:
            content = b""
            with suppress(FileNotFoundError):
                content = read(f"{self.address}/{version}/{FILE}", self.options)
            stored = parse_version(content, version)
            if stored.recipe is None:  # perhaps not yet
                return replace(stored, content=digest(states(f"{self.address}/{version}", self.options)))
            self._stored[version] = stored
        return self._stored[version]

    def made_by(
        self, key: str, trusts: Callable[[StoredVersion], bool] = lambda stored: True
    ) -> Iterator[StoredVersion]:
        """Yield the versions made by the recipe with this key, and to be trusted, as local copies, the newest first."""
        for version in self.all():
            stored = self.stored(version)
            if stored.recipe and stored.recipe.key == key and trusts(stored):
                self.fetch(version)
                yield replace(stored, folder=self.folder / version)

    def fetch(self, version: str) -> None:
        """Have the cache hold the version, or raise OSError: complete and with the files that were saved."""
        copy, address = self.folder / version, f"{self.address}/{version}"
        if not self.has(version):
            raise StorageError(f"{address} is missing or incomplete: it has no {MARKER}.")
        stored = self.stored(version)
        if copy.is_dir():
            if stored.recipe is None or stored.content == content_of(copy):
                return
            logger.warning("%s is damaged (its files have changed) and is downloaded again.", copy)
            shutil.rmtree(copy)
        with atomic_folder(copy, shared=True) as draft:
            names = [name for name in states(address, self.options) if name != MARKER]
            download(address, self.options, names, draft)
            if stored.recipe is not None and stored.content != content_of(draft):
                raise StorageError(
                    f"The files in {address} are not those that were saved there: something changed them. They were "
                    "not read. Remove that folder, so that the version before is read or a run makes another one, or "
                    "name a version with --load-versions."
                )

    def upload(self, draft: Path, version: str) -> None:
        """Save a folder of files as a version, or no part of it; remove uploads that ended a day ago or earlier."""
        files = sorted(file for file in draft.rglob("*") if file.is_file())
        try:
            with storage_at(f"{self.address}/{version}", self.options) as (storage, path):
                self._remove_leftovers()
                objects = [f"{path}/{file.relative_to(draft).as_posix()}" for file in files]
                storage.pipe_file(f"{path}/{STARTED}", b"")
                storage.put([str(file) for file in files], objects)
                storage.rm_file(f"{path}/{STARTED}")
                storage.pipe_file(f"{path}/{MARKER}", b"")
        except BaseException:
            with suppress(StorageError):
                self.erase(version)
            raise
        self.newest = version

    def erase(self, version: str) -> None:
        """Remove a version and its local copy, the marker first, so that it is never read in part."""
        remove(f"{self.address}/{version}/{MARKER}", self.options)
        self._whole.discard(version)
        remove(f"{self.address}/{version}", self.options)
        shutil.rmtree(self.folder / version, ignore_errors=True)

    def _names(self) -> list[str]:
        """Return the names of all folders that may be versions, newest first."""
        return names_in(self.address, self.options)[::-1]

    def _remove_leftovers(self) -> None:
        for version in (name for name in self._names() if not self.has(name)):
            address = f"{self.address}/{version}"
            if not exists(f"{address}/{STARTED}", self.options):
                continue
            with storage_at(address, self.options) as (storage, path):
                changes = [storage.modified(name) for name in storage.find(path)]
            if changes and max(changes) < datetime.now(changes[0].tzinfo) - LEFTOVER:
                logger.warning("Removing %s: an earlier run was interrupted while it saved there.", address)
                remove(address, self.options)
