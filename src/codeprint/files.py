"""Local files at addresses, digests of plain data and of files, and the user's cache."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from glob import has_magic
from pathlib import Path
from typing import Any

DIGITS = 24  # hexadecimal ones of a digest: 96 bits
SMALL = 2**18  # bytes: to hash less takes no longer than to look it up
SCHEMES = ("file://", "local://")
CLOCK_TICK = 2 * 10**9  # ns; what changed less long ago may change again without another time


def digest(value: Any) -> str:
    """Return the digest of plain data, which is the same in every version of Python; the order of keys counts not.

    Examples:
        >>> digest({"a": [1], "b": None}) == digest({"b": None, "a": [1]}) != digest({"a": [2], "b": None})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def is_own(path: Path) -> bool:
    """Whether a file or folder belongs to this user; on Windows, whose users have folders of their own, it does."""
    return os.name == "nt" or path.stat().st_uid == os.geteuid()


def private_cache(tool: str = "codeprint") -> Path:
    """Return the private folder of a tool in the user's cache; raise PermissionError if another user owns it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / tool
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own(cache):
        raise PermissionError(
            f"The cache {cache} belongs to another user, who could change what is read from it: set XDG_CACHE_HOME to "
            "a folder of your own."
        )
    cache.chmod(0o700)
    return cache


def write_cached(file: Path, content: bytes) -> None:
    """Write or replace a file as a whole, which may be lost when the machine stops."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
    draft.write_bytes(content)
    draft.replace(file)


def sha256_of(file: Path) -> str:
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            hashed.update(block)
    return hashed.hexdigest()


def remembered_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, which is read once while its inode, its size and its times of change stay.

    Digests of files that are not `SMALL` are kept in the user's cache, one per inode.
    """
    status = file.stat()
    return _digest_of_file(file, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@cache
def _digest_of_file(file: Path, state: tuple[int, ...]) -> str:
    device, inode, size, *times = state
    note = f"files/{device}-{inode}.json"
    if size < SMALL:
        return sha256_of(file)
    with suppress(OSError, ValueError, TypeError):  # it is not there, or damaged
        noted, content = json.loads((private_cache() / note).read_bytes())
        if tuple(noted) == state:
            return str(content)
    is_settled = time.time_ns() - max(times) > CLOCK_TICK
    content = sha256_of(file)
    if is_settled:
        with suppress(OSError):  # where there is no cache, files are read each time
            write_cached(private_cache() / note, json.dumps([state, content]).encode())
    return content


def paths_at(address: str) -> list[Path]:
    """Return the existing files and folders at an address: a path, one after ``file://``, or a pattern of paths.

    An existing path is no pattern, whatever brackets it has. The root of the disk is left out.

    Examples:
        >>> paths_at(__file__) == paths_at(f"file://{__file__}") == [Path(__file__)], paths_at("https://example.org/a")
        (True, [])
    """
    scheme = next((scheme for scheme in SCHEMES if address.startswith(scheme)), "")
    path = address.removeprefix(scheme)
    if "://" in path or "\0" in path or not Path(path).name:
        return []
    if os.path.lexists(path):
        return [Path(path)]
    anchor = Path(path).anchor
    with suppress(ValueError):  # it is no pattern, such as a query of `price ** 2`
        return sorted(Path(anchor).glob(path.removeprefix(anchor))) if has_magic(path) else []
    return []


def files_in(path: Path) -> Iterator[Path]:
    """Yield a file, or all files in a folder and below, also behind symbolic links, in the order of their paths."""
    files, seen = [path], set()
    for place, folders, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder that it lies in
            folders.clear()
            continue
        seen.add(real)
        files += [Path(place, name) for name in names]
    yield from sorted(file for file in files if file.is_file())


def digest_of_files(path: Path, leave_out: Collection[str] = ()) -> str:
    """Return the digest of a file, or of the names and contents of all files in a folder but those to leave out."""
    files = files_in(path) if path.is_dir() else [path]
    counted = [file for file in files if file.name not in leave_out]
    return digest([(str(file.relative_to(path)), remembered_sha256(file)) for file in counted])
