"""Recipes of nodes, and the records stored next to the files of each version.

A version is up to date for a run if the run would make it by the same recipe. Versions, results in
stores, checkpoints and finished shards are identified by the key of a recipe.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from codeprint.files import digest_of_files
from kedro_provenance.files.digests import digest
from kedro_provenance.lineage import Ancestor, ancestors, describe, is_described, parse_ancestor, remembered

FILE = "provenance.json"
UNRECORDED: dict[str, Any] = {"version": "", "folder": None, "lineage_folder": None, "begun": 0.0, "kept": ()}
"""Fields of a version that its record leaves out, each with the value that stands for none."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the outputs of a node, and its name."""

    node: str
    code: str  # digest of the project's code that it runs
    parameters: Mapping[str, Any]  # without those that do not change results
    inputs: Mapping[str, str]  # digest of the content of each entry that it loads
    entries: Mapping[str, str]  # digest of how the catalog loads or saves each of its entries
    parts: Mapping[str, str] = field(default_factory=dict)  # short digests of its code by name, to say what has changed
    uncertain: tuple[str, ...] = ()  # why nothing tells whether what it has left is what it would leave now

    @cached_property
    def key(self) -> str:
        """Digest of the recipe; another name of the node makes no other recipe, another order of parameters does."""
        deciding = {name: getattr(self, name) for name in ("code", "parameters", "inputs", "entries")}
        return digest([deciding, [path for path, _ in flat(self.parameters)]])


@dataclass(frozen=True)
class StoredVersion:
    """A version of an entry, with its location and what it was made from."""

    recipe: Recipe | None  # None if it is not recorded
    content: str = ""  # digest of its files
    run: str | None = None  # the run that made it
    seconds: float = 0.0  # duration of its node until it was saved, loading included
    revision: str | None = None  # git revision of the code; None outside of git
    parents: tuple[str, ...] = ()  # ids of the states that it was made of, see `kedro_provenance.lineage`
    values: tuple[str, ...] = ()  # texts among the parameters of its node and of its lineage, which may name modules
    kinds: tuple[str, ...] = ()  # the project's classes among its data: what reads it runs their code
    partitions: Mapping[str, str] = field(default_factory=dict)  # that it was made of, if one by one: their digests
    signature: str = ""  # of a copy in a cache, by the key of that cache
    version: str = ""  # its name
    folder: Path | None = None  # of its files; None in an object storage
    lineage_folder: Path | None = None  # with the descriptions of its parents; None if these are known
    begun: float = 0.0  # when the node that makes it began, by `time.perf_counter`
    kept: Collection[str] = ()  # partitions that its node does not make again

    @property
    def elapsed(self) -> float:
        """Seconds that its node took, or has taken by now."""
        return self.seconds or time.perf_counter() - self.begun

    @cached_property
    def lineage(self) -> tuple[Ancestor, ...]:
        """All states that it comes from, a state after those that it was made of in turn."""
        return (*ancestors(self.parents, self.lineage_folder),)[::-1]

    @property
    def is_intact(self) -> bool:
        """Whether its files are unchanged; files in an object storage are checked when they are read.

        A version without a recipe cannot be checked, and counts as intact.
        """
        return self.folder is None or self.recipe is None or self.content == content_of(self.folder)

    def recorded(self) -> dict[str, Any]:
        """Return what a record says of it: nothing of where it lies."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in UNRECORDED}
        return own | {"recipe": self.recipe and {each.name: getattr(self.recipe, each.name) for each in fields(Recipe)}}

    def to_json(self, place: Path | None = None, lineage: Path | None = None) -> bytes:
        """Return the record to store in `place`; without a folder for the lineage, it has the lineage itself."""
        stored = self.recorded()
        if place and lineage:
            describe(self.parents, self.lineage_folder, lineage)
            stored["lineage_folder"] = os.path.relpath(lineage.resolve(), place.resolve())
        else:
            stored["lineage"] = [each.described() for each in self.lineage]
        return json.dumps(stored, indent=1).encode()

    def write(self, folder: Path, place: Path | None = None, lineage: Path | None = None) -> None:
        """Write the record next to the files of a version, with their digest, see `to_json`."""
        (folder / FILE).write_bytes(replace(self, content=content_of(folder)).to_json(place, lineage))

    def ancestor(self, entry: str) -> Ancestor:
        """Return this version as an ancestor of others."""
        if self.recipe is None:
            return Ancestor(entry, self.content, run=self.version)
        made = self.recipe.node, self.recipe.key, self.run, self.recipe.inputs
        return Ancestor(entry, self.content, *made, parents=self.parents, folder=self.lineage_folder)


def content_of(path: Path) -> str:
    """Return the digest of the files of a version, or of a single file."""
    return digest_of_files(path, leave_out=[FILE])


def read_version(folder: Path) -> StoredVersion:
    try:
        stored = parse_version((folder / FILE).read_bytes(), folder.name, folder)
    except OSError:
        stored = StoredVersion(None, version=folder.name)
    content = content_of(folder) if stored.recipe is None else stored.content
    return replace(stored, content=content, folder=folder)


def read_record(record: Path, content: Callable[[], str | None]) -> StoredVersion | None:
    """Return the record of data without versions; None if there is none, or `content()` has another digest now."""
    try:
        stored = parse_version(record.read_bytes(), "", record.parent)
    except OSError:
        return None
    return stored if stored.recipe and stored.content == content() else None


def local_versions(path: Path, key: str) -> Iterator[StoredVersion]:
    """Yield the versions in a folder made by the recipe with this key, the newest first."""
    for record in sorted(path.glob(f"[!.]*/{FILE}"), reverse=True):
        stored = read_version(record.parent)
        if stored.recipe and stored.recipe.key == key:
            yield stored


def parse_version(content: bytes, version: str, place: Path | None = None) -> StoredVersion:
    """Return a version from its record; without a recipe if the record has none, or its lineage is gone."""
    try:
        stored = json.loads(content)
        known = {each.name for each in fields(StoredVersion)} - UNRECORDED.keys()
        read: dict[str, Any] = {name: stored[name] for name in known & stored.keys()}
        said = stored["recipe"]  # of an earlier release, it may say more
        kept = {each.name: said[each.name] for each in fields(Recipe) if each.name in said}
        read["recipe"] = Recipe(**kept | {"uncertain": tuple(said.get("uncertain", ()))})
        read |= {name: tuple(map(str, stored[name])) for name in ("values", "kinds", "parents") if name in stored}
        if "lineage" in stored:
            described = [remembered(parse_ancestor(each)) for each in stored["lineage"]]
            read.setdefault("parents", tuple(described))
        elif place:
            read["lineage_folder"] = folder = place.resolve() / stored["lineage_folder"]
            if not all(is_described(each, folder) for each in read["parents"]):
                return StoredVersion(None, version=version)
        return StoredVersion(**read, version=version)
    except (ValueError, TypeError, AttributeError, KeyError):
        return StoredVersion(None, version=version)


def texts(parameters: Mapping[str, Any]) -> set[str]:
    """Return the texts among the values of parameters."""
    return {value for _, value in flat(parameters) if isinstance(value, str)}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings and lists, each with its dotted path.

    Examples:
        >>> list(flat({"model": {"kind": "trees", "depths": [8, 4]}}))
        [('model.kind', 'trees'), ('model.depths.0', 8), ('model.depths.1', 4)]
    """
    if value and isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
