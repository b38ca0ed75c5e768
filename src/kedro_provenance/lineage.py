"""What results come from: states of entries, each with those that it was made of in turn.

A state is known by the digest of its description, in which its parents are named by theirs. So a folder holds each
state once, whichever records name it, and a record names its parents alone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from codeprint.files import write_cached
from kedro_provenance.files.digests import digest

LINEAGE = "lineage"  # name of the folder, among the records

_known: dict[str, "Ancestor"] = {}


@dataclass(frozen=True)
class Ancestor:
    """A state of an entry that something was made from."""

    entry: str
    content: str  # digest of the state's content
    node: str | None = None  # that made it; None for raw data, and if it is not recorded
    key: str | None = None  # of that node's recipe
    run: str | None = None  # of that node, or the version if no node is recorded; None for entries without versions
    inputs: Mapping[str, str] | None = None  # digest of the content of each entry that the node loaded
    place: str | None = None  # of raw data; None for models
    parents: tuple[str, ...] = ()  # ids of the states that it was made of
    folder: Path | None = field(default=None, compare=False)  # of its parents' descriptions; None if these are known

    @cached_property
    def id(self) -> str:
        """Digest of the state's description."""
        return digest(self.described())

    def described(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}


def remembered(ancestor: Ancestor) -> str:
    """Return the id of a state, by which this process finds it from now on."""
    _known.setdefault(ancestor.id, ancestor)
    return ancestor.id


def is_described(id: str, folder: Path | None) -> bool:
    """Whether a state is known, or described in a folder."""
    return id in _known or (folder is not None and (folder / f"{id}.json").is_file())


def ancestors(ids: Iterable[str], folder: Path | None) -> Iterator[Ancestor]:
    """Yield the states with these ids and all that they were made of, each once; `folder` describes unknown ones."""
    left, seen = [(id, folder) for id in ids], set[str]()
    while left:
        id, place = left.pop()
        if id not in seen:
            seen.add(id)
            yield (each := _ancestor(id, place))
            left += [(parent, each.folder) for parent in each.parents]


def describe(ids: Iterable[str], source: Path | None, folder: Path) -> None:
    """Write states, described in `source` or known, and all that they were made of to a folder that lacks them."""
    for id in ids:
        if not (file := folder / f"{id}.json").exists():
            each = _ancestor(id, source)
            describe(each.parents, each.folder, folder)
            write_cached(file, json.dumps(each.described()).encode())


def prune(folder: Path, ids: Iterable[str]) -> None:
    """Remove from a folder all states but those with these ids and what they were made of."""
    left, kept = [*ids], set[str]()
    while left:
        if (id := left.pop()) not in kept:
            kept.add(id)
            with suppress(FileNotFoundError):
                left += _ancestor(id, folder).parents
    for file in [file for file in folder.glob("*.json") if file.stem not in kept]:
        file.unlink()


def parse_ancestor(described: Mapping[str, Any], folder: Path | None = None) -> Ancestor:
    """Return a state from its description."""
    return Ancestor(**{**described, "parents": tuple(described.get("parents", ())), "folder": folder})


def _ancestor(id: str, folder: Path | None) -> Ancestor:
    if id not in _known:
        try:
            assert folder
            _known[id] = parse_ancestor(json.loads((folder / f"{id}.json").read_bytes()), folder)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{folder}/{id}.json, which records what results were made of, is missing or damaged. Make the results "
                "again, by a run without --only-missing-outputs."
            ) from error
    return _known[id]
