"""Recipes: what a node is made of; and what was stored by them, kept beside the files of each version.

A version fits a run if the run would make it by the same recipe. Whatever has to be recognised by what it was made of
goes by the key of a recipe: a version that is there, a cell of a study, a checkpoint, a finished shard.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kedro_provenance.files.digests import digest, digest_of_files

FILE = "provenance.json"


@dataclass(frozen=True)
class Recipe:
    """All that decides what a node leaves.

    Attributes:
        node: its name.
        code: digest of the project's code that it runs.
        parameters: what it reads of the parameters, by their names; without what changes no results.
        inputs: by the name of an entry that it loads, the digest of the content.
        entries: by the name of an entry that it loads or saves, the digest of how the catalog does that.
    """

    node: str
    code: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    entries: Mapping[str, str]

    @cached_property
    def key(self) -> str:
        """What equal recipes have in common, and no others."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Ancestor:
    """One state of an entry that something was made of.

    Attributes:
        entry: its name.
        content: digest of the state's content.
        node: that made it; None for what no node made, and where nothing says which one did.
        key: of that node's recipe.
        run: of that node, or the version of which nothing says what it was made of; None for what has no versions.
        inputs: by the name of an entry that the node loaded, the digest of the content.
        place: where the data lie that no node made; None for models.
    """

    entry: str
    content: str
    node: str | None = None
    key: str | None = None
    run: str | None = None
    inputs: Mapping[str, str] | None = None
    place: str | None = None


@dataclass(frozen=True)
class StoredVersion:
    """A version of an entry: where it is, and what it was made of.

    Attributes:
        recipe: by which it was made; None if nothing says so.
        content: digest of its files.
        run: the run that made it.
        seconds: that its node took until this was saved, loading included.
        revision: git revision of the code; None outside of git.
        lineage: all that it comes from.
        values: texts among the parameters of its node and of all that it comes from, one of which may name a module.
        version: its name.
        folder: of its files; None in an object storage.
    """

    recipe: Recipe | None
    content: str = ""
    run: str | None = None
    seconds: float = 0.0
    revision: str | None = None
    lineage: tuple[Ancestor, ...] = ()
    values: tuple[str, ...] = ()
    version: str = ""
    folder: Path | None = None

    @property
    def is_intact(self) -> bool:
        """Whether its files are those that were saved; of what lies in an object storage, that shows when it is read.

        Of a version without a recipe, nothing tells.
        """
        return self.folder is None or self.recipe is None or self.content == content_of(self.folder)

    def to_json(self) -> bytes:
        """Return what is written beside the data; it does not say where they are."""
        stored = asdict(replace(self, folder=None))
        del stored["version"], stored["folder"]
        return json.dumps(stored, indent=1).encode()

    def write(self, folder: Path) -> None:
        """Write this beside the files of a version, with the digest of these."""
        (folder / FILE).write_bytes(replace(self, content=content_of(folder)).to_json())

    def ancestor(self, entry: str) -> Ancestor:
        """This version as one that others were made of."""
        if self.recipe is None:
            return Ancestor(entry, self.content, run=self.version)
        return Ancestor(entry, self.content, self.recipe.node, self.recipe.key, self.run, self.recipe.inputs)


def content_of(path: Path) -> str:
    """Return the digest of the files of a version, or of a single file."""
    return digest_of_files(path, leave_out=[FILE])


def read_version(folder: Path) -> StoredVersion:
    """The version in a folder."""
    try:
        stored = parse_version((folder / FILE).read_bytes(), folder.name)
    except OSError:
        stored = StoredVersion(None, version=folder.name)
    content = content_of(folder) if stored.recipe is None else stored.content
    return replace(stored, content=content, folder=folder)


def read_file(path: Path, provenance: Path) -> StoredVersion | None:
    """Return what a file without versions was made of; None if nothing says so, or the file was changed since.

    Args:
        path: of the file or folder.
        provenance: of the file that says what it was made of.
    """
    try:
        stored = replace(parse_version(provenance.read_bytes(), ""), folder=path)
        return stored if stored.recipe and stored.is_intact else None
    except OSError:
        return None


def parse_version(content: bytes, version: str) -> StoredVersion:
    """A version by the content of the file that was written beside its files; without a recipe if that says none."""
    try:
        values_by_field = json.loads(content)
        if values_by_field.keys() != {field.name for field in fields(StoredVersion)} - {"version", "folder"}:
            return StoredVersion(None, version=version)
        recipe, lineage = (
            Recipe(**values_by_field["recipe"]),
            tuple(Ancestor(**each) for each in values_by_field["lineage"]),
        )
        values = tuple(map(str, values_by_field["values"]))
        return StoredVersion(
            **values_by_field | {"recipe": recipe, "lineage": lineage, "values": values, "version": version}
        )
    except (ValueError, TypeError, AttributeError):
        return StoredVersion(None, version=version)


def texts(parameters: Mapping[str, Any]) -> set[str]:
    """The texts among the values of parameters."""
    return {value for _, value in flat(parameters) if isinstance(value, str)}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings and lists, each with its dotted path.

    Examples:
        >>> list(flat({"lens": {"model": "sim", "dims": [8, 4]}}))
        [('lens.model', 'sim'), ('lens.dims.0', 8), ('lens.dims.1', 4)]
    """
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    if value and items:
        for key, item in items:
            yield from flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
