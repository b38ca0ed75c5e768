"""Whether what a catalog entry reads, and no node made, is still the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reclora_kedro.files.digests import digest, digest_of_files
from reclora_kedro.files.storage import is_remote, states, storage_options


def digest_of_entry(entry: Mapping[str, Any]) -> str:
    """Digest of what a catalog entry says and, where it names files or folders, of their contents.

    Of those in an object storage, it is their sizes and what the storage tells of their state, such as an ETag. What
    lies elsewhere, such as in a database or on a hub, is known by its address alone.
    """
    said, contents = {}, []
    for key, value in entry.items():
        path = Path(value) if isinstance(value, str) else Path("/")
        paths = sorted(path.parent.glob(path.name)) if path.is_absolute() and path.name else []  # a pattern, or itself
        contents += [digest_of_files(path) for path in paths]
        if is_remote(value):
            contents.append(digest(states(value, storage_options(entry))))
        if not paths and key not in ("metadata", "credentials"):
            said[key] = value
    return digest([said, contents])
