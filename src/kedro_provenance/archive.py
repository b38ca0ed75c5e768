"""All stored versions of a catalog, whichever run made them: listing, inspection and erasure."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import parse_dataset_definition
from parse import parse

from codeprint.files import files_in
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_scratch
from kedro_provenance.files.atomic import remove_folder
from kedro_provenance.files.storage import ADDRESSES, Listings, StorageError, is_remote, remove, states, storage_options
from kedro_provenance.layers import layer_of
from kedro_provenance.lineage import Ancestor
from kedro_provenance.project import is_alias
from kedro_provenance.recipe import FILE, StoredVersion, content_of, read_record, read_version
from kedro_provenance.remote_versions import RemoteVersions
from kedro_provenance.run import Run
from kedro_provenance.stores import Store


@dataclass(frozen=True)
class ArchivedVersion:
    """A version of an entry, or the remains of an interrupted node."""

    entry: str  # its name, also of a variant that is no longer configured
    layer: str  # in kedro-viz
    address: str  # of its folder
    options: Mapping[str, Any]  # of its storage
    stored: StoredVersion | None  # None for the remains of an interrupted node

    @property
    def version(self) -> str | None:
        """Name of the version; None for the remains of an interrupted node."""
        return self.stored.version if self.stored else None

    @property
    def content(self) -> str:
        """Digest of its files; empty for the remains of an interrupted node."""
        return self.stored.content if self.stored else ""

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """All states that it comes from, as far as they are recorded."""
        return self.stored.lineage if self.stored else ()

    def erase(self) -> None:
        """Remove it as a whole, or raise OSError."""
        if self.stored is None:
            remove(self.address, self.options)
        elif is_remote(self.address):
            address, _, version = self.address.rpartition("/")
            RemoteVersions(address, self.options).erase(version)
        else:
            remove_folder(Path(self.address))


class Archive:
    """All versions that any run left under the addresses of a catalog's entries, patterns included, and in stores."""

    def __init__(self, catalog: AtomicCatalog, stores: Sequence[Store] = ()) -> None:
        resolver, self._stores = catalog.config_resolver, stores
        names = [name for name in (*resolver.config, *resolver.list_patterns()) if not is_alias(name)]
        self._entries = {name: resolver.resolve_pattern(name) for name in names}
        self._remote: dict[str, RemoteVersions] = {}  # by address; they remember records, which never change

    def versions(self) -> list[ArchivedVersion]:
        """All versions, and the remains of interrupted nodes, in one listing of each folder."""
        listed, listings = list[ArchivedVersion](), Listings()
        for pattern, entry in self._entries.items():
            address, options = entry.get("filepath"), storage_options(entry)
            if address and (entry.get("versioned") or is_scratch(type_of(entry))):
                for names in placeholders_at(address, options, listings):
                    place, name = address.format_map(names), pattern.format_map(names)
                    listed += self._versions_at(place, options, name, entry, listings)
        for store in self._stores:
            for name, place in store.addresses():
                # The catalog may have the entry no longer.
                entry = next((entry for pattern, entry in self._entries.items() if parse(pattern, name)), {})
                listed += self._versions_at(place, store.options, name, entry, listings)
        return list({each.address: each for each in reversed(listed)}.values())  # patterns match the names of others

    def _versions_at(
        self, place: str, options: Mapping[str, Any], name: str, entry: Mapping[str, Any], listings: Listings
    ) -> Iterator[ArchivedVersion]:
        """Yield the versions of an entry in a folder, or the folder if it has the remains of interrupted work."""
        layer = layer_of(name, str(entry.get("filepath")), entry.get("metadata"))
        is_work = bool(entry) and not entry.get("versioned") and is_scratch(type_of(entry))
        versions = listings.names_in(place, options)
        remote = self._remote.setdefault(place, RemoteVersions(place, options)) if is_remote(place) else None
        if is_work and versions:
            yield ArchivedVersion(name, layer, place, options, None)
        for version in versions if not is_work else ():
            stored = remote.stored(version) if remote else read_version(Path(place, version))
            yield ArchivedVersion(name, layer, f"{place}/{version}", options, stored)

    def require_erasable(self, erased: Collection[ArchivedVersion], in_use: Collection[tuple[str, str]]) -> None:
        """Raise ValueError if stored data are needed, or may not be removed."""
        if obstacles := [*self._obstacles(erased, in_use)]:
            lines = "\n".join(f"- {obstacle}" for obstacle in obstacles)
            raise ValueError(f"Some versions cannot be erased. Nothing was erased.\n{lines}")

    def _obstacles(self, erased: Collection[ArchivedVersion], in_use: Collection[tuple[str, str]]) -> Iterator[str]:
        """Yield the reasons why versions cannot be erased."""
        for each in erased:
            if (each.entry, each.version) in in_use:
                yield f"{each.entry} {each.version} is in use."
            if not each.address:
                yield f"{each.entry} lies in no local file: remove it there, or make it again of other data."
            elif not is_remote(each.address) and not os.access(Path(each.address).parent, os.W_OK):
                yield f"{each.address} cannot be removed: this user may not write to the folder that it lies in."
        local = (each for each in erased if each.version and not is_remote(each.address))
        folders = {Path(each.address).resolve(): each for each in local}
        for name, entry in self._entries.items():
            paths = [str(entry[key]) for key in ADDRESSES if key in entry]
            for path in paths if not entry.get("versioned") else []:
                for folder, each in folders.items():
                    if Path(path).resolve().is_relative_to(folder):
                        yield f"The catalog entry {name} reads {path}, which is {each.entry} {each.version}."


def placeholders_at(address: str, options: Mapping[str, Any], listings: Listings) -> list[dict[str, str]]:
    """Return the values of the placeholders in an address at each existing place; a plain local one is one place."""
    if "{" not in address and not is_remote(address):
        return [{}]
    parts = address.split("/")
    first = next((position for position, part in enumerate(parts) if "{" in part), len(parts) - 1)
    places = ["/".join(parts[:first])]
    try:
        for pattern in (re.sub(r"\{\w+\}", "*", part) for part in parts[first:]):
            names = ((place, name) for place in places for name in listings.names_in(place, options))
            places = [f"{place}/{name}" for place, name in names if fnmatchcase(name, pattern)]
    except StorageError:
        if "{" in address:
            raise
        return [{}]  # whoever may not list the parent may list the place
    return [each.named for each in (parse(address, place) for place in places) if each]


def bytes_freed(removed: Iterable[ArchivedVersion]) -> dict[str, int]:
    """Return how many bytes are freed by a removal, by entry; a file with links counts once none of them is left."""
    freed, links = Counter[str](), Counter[tuple[int, int]]()
    for each in removed:
        if is_remote(each.address):
            freed[each.entry] += sum(size for size, _ in states(each.address, each.options).values())
            continue
        for file in files_in(Path(each.address)) if each.address else ():
            status = file.lstat()
            links[inode := (status.st_dev, status.st_ino)] += 1
            freed[each.entry] += status.st_size * (links[inode] == status.st_nlink)
    return dict(freed)


def move_into_versions(path: Path, run: Run) -> Path | None:
    """Move a file whose entry keeps versions from now on among them, as that of its time; return it, if it is one.

    Its record goes along, so that it stays up to date. A move that was killed is finished. If something lies where the
    version is prepared, FileExistsError is raised, and the file stays.
    """
    draft = path.with_name(f".{path.name}.versions")
    if not path.exists() and draft.is_dir():
        draft.rename(path)
    if not path.is_file():
        return None
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    version = min(f"{written:%Y-%m-%dT%H.%M.%S}.{written.microsecond // 1000:03d}Z", run.params["run_id"])
    stored = read_record(record := path.with_name(f".{path.name}.{FILE}"), lambda: content_of(path))
    draft.mkdir()
    (draft / version).mkdir()
    path.rename(draft / version / path.name)
    if stored:
        stored.write(draft / version, path / version, run.records.lineage)
    draft.rename(path)
    record.unlink(missing_ok=True)
    return path / version / path.name


def type_of(entry: Mapping[str, Any]) -> type[AbstractDataset]:
    """Return the type of datasets that an entry names."""
    return parse_dataset_definition({"type": entry["type"]})[0]
