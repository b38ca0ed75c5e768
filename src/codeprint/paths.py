"""Local files and folders at addresses, and their digests."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from glob import has_magic
from pathlib import Path

from codeprint.files import digest, remembered_sha256

SCHEMES = ("file://", "local://")


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


def files_in(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and below, also behind symbolic links, in the order of their paths."""
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder that it lies in
            folders.clear()
            continue
        seen.add(real)
        files += [Path(place, name) for name in names]
    yield from sorted(file for file in files if file.is_file())


def digest_of_files(path: Path, leave_out: Collection[str] = ()) -> str:
    """Return the digest of a file, or of the names and contents of all files in a folder but those to leave out.

    Files are read once while they do not change, see `remembered_sha256`.
    """
    files = files_in(path) if path.is_dir() else [path]
    counted = [file for file in files if file.name not in leave_out]
    return digest([(str(file.relative_to(path)), remembered_sha256(file)) for file in counted])
