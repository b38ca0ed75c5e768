"""Digests of data and files."""

import hashlib
import json
import os
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from kedro_provenance.files.atomic import atomic_file
from kedro_provenance.files.paths import files_in, is_own

DIGITS = 24  # hexadecimal ones of a digest: 96 bits
REMEMBERED = TypeAdapter(dict[str, tuple[int, int, str]])  # size, time of change and digest, by a file's path
LARGE = 2**26  # bytes of a file whose digest is remembered from run to run: an LLM's weights take a while


def digest(value: Any) -> str:
    """Return the digest of plain data, parameter blocks and data classes; the order of keys does not matter.

    Examples:
        >>> digest({"r": 8, "lora_alpha": 16}) == digest({"lora_alpha": 16, "r": 8}) != digest({"r": 8})
        True
    """
    text = json.dumps(to_jsonable_python(value, fallback=str), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def digest_of_files(path: Path, leave_out: Collection[str] = ()) -> str:
    """Return the digest of a file, or of the names and contents of all files in a folder, following links.

    Files of 64 MiB or more are read once: their digests are cached, and valid while a file's size and modification time
    stay.

    Args:
        leave_out: names of files in the folder to ignore.
    """
    files = files_in(path) if path.is_dir() else [path]
    counted = [file for file in files if file.name not in leave_out]
    return digest([(str(file.relative_to(path)), remembered_sha256(file)) for file in counted])


def private_cache() -> Path:
    """Return this plug-in's private folder in the user's cache, or raise PermissionError if another user owns it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kedro-provenance"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own(cache):
        raise PermissionError(
            f"The cache {cache} belongs to another user, who could change the weights in it: set XDG_CACHE_HOME to a "
            "folder of your own."
        )
    cache.chmod(0o700)
    return cache


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, which is read once while its size and modification time stay."""
    status = file.stat()
    return _digest_of_file(file.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _digest_of_file(file: Path, size: int, modified: int) -> str:
    if size < LARGE:
        return sha256_of(file)
    cache = private_cache() / "digests/files.json"
    try:
        remembered = REMEMBERED.validate_json(cache.read_bytes())
    except (OSError, ValueError):  # it is not there, or damaged
        remembered = {}
    if remembered.get(str(file), ())[:2] != (size, modified):
        remembered = {path: entry for path, entry in remembered.items() if Path(path).exists()}
        remembered[str(file)] = (size, modified, sha256_of(file))
        atomic_file(cache, json.dumps(remembered, indent=1).encode())
    return remembered[str(file)][2]
