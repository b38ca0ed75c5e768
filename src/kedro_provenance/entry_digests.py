"""Digests of catalog entries, with the contents of all that they name."""

import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from codeprint.files import digest_of_files, paths_at
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import ADDRESSES, is_remote, states, storage_options

DATABASE = re.compile(r"(postgres(ql)?|mysql|mariadb|mssql|oracle|sqlite|duckdb)(\+\w+)?://")
UNREAD = ("metadata", "credentials")  # keys that say nothing of the content


def digest_of_entry(entry: Mapping[str, Any], load: Callable[[], Any] | None = None) -> str:
    """Return the digest of a catalog entry and of the contents of files and folders that it names at any depth.

    In an object storage, sizes and states, such as an ETag, count as contents. Models of a hub and web pages are
    identified by their address alone. For a dataset without an address, with a query alone, or with the URL of a
    database, the data count, too; data that cannot be hashed count as changed in each process. Any text of the entry
    may name a file; the name of a folder outside of `ADDRESSES` has a slash. Relative paths begin in the working
    directory.
    """
    is_known_by_data, contents = any(map(_is_known_by_its_data, _datasets_in(entry))), list[str]()
    description = _without_contents("", entry, entry, contents)
    if load and is_known_by_data:
        contents.extend(_digests_of_data(load()))
    return digest([description, contents])


def is_comparable(entry: Mapping[str, Any], load: Callable[[], Any]) -> bool:
    """Whether another process could find the digest of an entry again, see `digest_of_entry`."""
    is_known_by_data = any(map(_is_known_by_its_data, _datasets_in(entry)))
    return not is_known_by_data or of_this_process() not in _digests_of_data(load())


def place_of_entry(entry: Mapping[str, Any]) -> str | None:
    """Return the location of an entry's data, independently of the folders of the project and of packages.

    None for models, which have a `source` or a `base_url`: these are settings, not data sets.
    """
    if not {"source", "base_url"}.isdisjoint(entry):
        return None
    addresses = list(_addresses_in(entry))
    return ", ".join(addresses) or json.dumps({key: entry[key] for key in entry if key not in UNREAD}, default=str)


def _addresses_in(entry: Mapping[str, Any]) -> Iterator[str]:
    for key, item in entry.items():
        if isinstance(item, Mapping):
            yield from _addresses_in(item)
        elif key in ADDRESSES and Path(str(item)).is_absolute():
            bases = [base for base in sys.path if base and Path(item).is_relative_to(base)]
            yield os.path.relpath(item, max(bases, key=len, default=os.curdir))
        elif key in ADDRESSES:
            yield str(item)


def _datasets_in(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the datasets that read data: nested ones in a block without an address, or else the block itself."""
    nested: list[Mapping[str, Any]] = []
    left = [] if _has_address(block) else list(block.values())
    while left:
        value = left.pop()
        if isinstance(value, Mapping) and str(value.get("type")).endswith("Dataset"):
            nested.append(value)
        elif isinstance(value, Mapping | list | tuple):
            left.extend(value.values() if isinstance(value, Mapping) else value)
    for dataset in nested:
        yield from _datasets_in(dataset)
    if not nested:
        yield block


def _is_known_by_its_data(dataset: Mapping[str, Any]) -> bool:
    kind = str(dataset.get("type")).rpartition(".")[2]
    names_database = any(isinstance(value, str) and DATABASE.match(value) for value in dataset.values())
    return names_database or kind.endswith("QueryDataset") or (kind != "MemoryDataset" and not _has_address(dataset))


def _has_address(dataset: Mapping[str, Any]) -> bool:
    return not dataset.keys().isdisjoint(ADDRESSES)


def _without_contents(key: str, value: Any, block: Mapping[str, Any], contents: list[str]) -> Any:
    """Return a value of an entry with its paths, the digests of whose contents are appended to `contents`."""
    if isinstance(value, Mapping):
        given = {name: item for name, item in value.items() if name not in UNREAD}
        return {name: _without_contents(name, item, value, contents) for name, item in given.items()}
    if isinstance(value, list | tuple):
        return [_without_contents(key, item, block, contents) for item in value]
    if is_remote(value):
        there = states(value, storage_options(block))
        contents.append(digest({name: state for name, state in there.items() if name not in _checkpoint(block)}))
    elif isinstance(value, str):
        paths = [path for path in paths_at(value) if key in ADDRESSES or path.is_file() or "/" in value]
        contents.extend(digest_of_files(path, leave_out=_checkpoint(block)) for path in paths)
        return None if paths else value
    return value


def _checkpoint(block: Mapping[str, Any]) -> list[str]:
    """Return the name of the checkpoint in the folder of an incremental dataset, which is none of its data."""
    if not str(block.get("type")).endswith("IncrementalDataset"):
        return []
    given = block.get("checkpoint")
    filepath = given.get(block.get("filepath_arg", "filepath")) if isinstance(given, Mapping) else None
    return [Path(filepath or "CHECKPOINT").name]


def _digests_of_data(data: Any) -> Iterator[str]:
    """Yield digests of tables; for other data one of this process, so that they count as changed."""
    library = type(data).__module__.partition(".")[0]
    if library == "polars" and hasattr(data, "collect"):
        data = data.collect()
    if library == "polars" and hasattr(data, "hash_rows"):
        yield digest({name: str(kind) for name, kind in data.schema.items()})
        yield hashlib.sha256(data.hash_rows().to_numpy().tobytes()).hexdigest()
    elif library == "pandas" and hasattr(data, "dtypes"):
        from pandas.util import hash_pandas_object

        yield digest({str(name): str(kind) for name, kind in data.dtypes.items()})
        try:
            yield hashlib.sha256(hash_pandas_object(data).to_numpy().tobytes()).hexdigest()
        except TypeError:  # lists, say
            yield of_this_process()
    else:
        yield of_this_process()


@cache
def of_this_process() -> str:
    """Return a text that no other process returns."""
    return uuid.uuid4().hex
