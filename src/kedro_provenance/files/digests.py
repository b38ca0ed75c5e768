"""Digests of data and files."""

import atexit
import hashlib
import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from kedro_provenance.files.atomic import atomic_file
from kedro_provenance.files.paths import files_in, is_own

DIGITS = 24  # hexadecimal ones of a digest: 96 bits
STORED = "digests/files.json"  # in the user's cache
SMALL = 2**18  # bytes: to hash less takes no longer than to look it up
LARGE = 2**26  # bytes of a file whose digest is stored at once: to hash it takes a while
CLOCK_TICK = 2 * 10**9  # ns; what changed less long ago may change again without another time

State = tuple[int, int, int, int]  # of a file: size, times of change of content and status in ns, inode
Digests = dict[str, tuple[State, str]]  # by a file's path
DIGESTS = TypeAdapter(Digests)
_found: Digests = {}  # by this process, and not stored yet


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

    Files are read once while they do not change, see `remembered_sha256`.

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
    """Return the SHA-256 of a file, which is read once while its size, its times of change and its inode stay.

    Digests of files of 256 KiB or more are stored in the user's cache as the process ends, and those of 64 MiB or more
    at once.
    """
    status = file.stat()
    return _digest_of_file(file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@cache
def _digest_of_file(file: Path, state: State) -> str:
    size, *times, _ = state
    if size < SMALL:
        return sha256_of(file)
    file = file.resolve()
    known = _stored_digests().get(str(file))
    if known and known[0] == state:
        return known[1]
    is_settled = time.time_ns() - max(times) > CLOCK_TICK
    content = sha256_of(file)
    if is_settled:
        _found[str(file)] = (state, content)
        if size >= LARGE:
            store_digests()
    return content


@cache
def _stored_digests() -> Digests:
    """Return the digests that earlier processes have stored; none if these are damaged or cannot be read."""
    atexit.register(store_digests)
    try:
        return DIGESTS.validate_json((private_cache() / STORED).read_bytes())
    except (OSError, ValueError):
        return {}


def store_digests() -> None:
    """Store what this process has found, beside what others have stored meanwhile; forget files that are gone."""
    if not _found:
        return
    _stored_digests.cache_clear()
    stored = {path: digest for path, digest in (_stored_digests() | _found).items() if Path(path).exists()}
    _found.clear()
    with suppress(OSError):  # where there is no cache, files are read each time
        atomic_file(private_cache() / STORED, json.dumps(stored).encode())
    _stored_digests.cache_clear()
