"""All stored versions of a catalog, whichever run made them: listing, inspection and erasure."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import parse_dataset_definition
from parse import parse

from codeprint.files import files_in
from kedro_provenance.aliases import is_alias
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_scratch
from kedro_provenance.files.atomic import remove_folder
from kedro_provenance.files.storage import (
    ADDRESSES,
    Listings,
    StorageError,
    is_remote,
    remove,
    states,
    storage_options,
)
from kedro_provenance.layers import layer_of
from kedro_provenance.lineage import Ancestor
from kedro_provenance.recipe import StoredVersion, read_version
from kedro_provenance.remote_versions import RemoteVersions
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
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the node that made it, as far as they are recorded."""
        return self.stored.recipe.parameters if self.stored and self.stored.recipe else {}

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """All states that it comes from, as far as they are recorded."""
        return self.stored.lineage if self.stored else ()

    def comes_from(
        self, contents: Collection[str], earlier: Mapping[str, Sequence["ArchivedVersion"]] | None = None
    ) -> tuple[set[str], set[str]] | None:
        """Return those of `contents` that it was made from, the first on each path, and the entries where others end.

        Args:
            contents: digests of contents at which a path ends; other paths end at raw data.
            earlier: versions by content, through which paths continue where something was made from an earlier version
                of itself; None skips such inputs. An earlier version may have the same content, as a copy has.
        """
        if self.stored is None or self.stored.recipe is None:
            return None
        ways: dict[str, list[Ancestor]] = {}
        for each in (*self.stored.lineage, self.stored.ancestor(self.entry)):
            ways.setdefault(each.content, []).append(each)
        left, seen, met, ends = [(self.entry, self.content)], set[str](), set[str](), set[str]()
        while left:
            name, content = left.pop()
            if content in seen or (earlier is None and is_alias(name)):
                continue
            seen.add(content)
            if content in contents:
                met.add(content)
                continue
            if earlier and (is_alias(name) or content == self.content):
                for stored in (version.stored for version in earlier.get(content, ()) if version.stored):
                    for each in (*stored.lineage, stored.ancestor(name)):
                        ways.setdefault(each.content, []).append(each)
            made = [way.inputs or {} for way in ways.get(content, [])]
            inputs = [each for way in made for each in way.items()]
            if made and all(content in way.values() for way in made):  # only copies are left
                ends |= {name for name, copied in inputs if copied == content and earlier is not None}
            left += inputs
            if not inputs:
                ends.add(name)
        return met, ends

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
        versions = sorted(version for version in listings.names_in(place, options) if not version.startswith("."))
        remote = self._remote.setdefault(place, RemoteVersions(place, options)) if is_remote(place) else None
        if is_work and versions:
            yield ArchivedVersion(name, layer, place, options, None)
        for version in versions if not is_work else ():
            stored = remote.stored(version) if remote else read_version(Path(place, version))
            yield ArchivedVersion(name, layer, f"{place}/{version}", options, stored)

    def erase(self, erased: Collection[ArchivedVersion], in_use: Collection[tuple[str, str]]) -> None:
        """Remove versions one by one, in this order, or none of them if `require_erasable` raises."""
        self.require_erasable(erased, in_use)
        for each in erased:
            each.erase()

    def at(self, addresses: Sequence[str]) -> list[ArchivedVersion]:
        """Return the existing versions at addresses."""
        listed = {each.address: each for each in self.versions()}
        return [listed[address] for address in addresses if address in listed]

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
            names = ((place, name) for place in places for name in sorted(listings.names_in(place, options)))
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


def type_of(entry: Mapping[str, Any]) -> type[AbstractDataset]:
    """Return the type of datasets that an entry names."""
    return parse_dataset_definition({"type": entry["type"]})[0]
