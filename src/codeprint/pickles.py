"""The classes and functions that unpickling would import, read from the bytes without loading anything."""

import bz2
import gzip
import lzma
import mmap
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from codeprint.modules import is_own, source_of

WORD = rb"[A-Za-z_][\w.]*"
FRAME = rb"(?:\x95.{8})?"  # the beginning of the next block of a stream
TEXT = rb"\x8c.(" + WORD + rb")\x94?" + FRAME
GLOBAL = re.compile(
    TEXT + TEXT + rb"\x93|(?:h.|j.{4})" + FRAME + TEXT + rb"\x93|c(" + WORD + rb")\n(" + WORD + rb")\n", re.S
)
"""A module and a name in it; one that the stream has named before and a name; both, in protocols before 4."""
COMPRESSED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"x": zlib.decompress,
}


def pickled_kinds(file: Path, packages: Collection[str] = ()) -> set[str]:
    """Return the own classes and functions that unpickling a file would import, such as ``shop.models:Model``.

    Files that are no pickle have none. Arrays between the parts of a pickle, as joblib writes them, are passed over.
    """
    kinds = set[str]()
    for stream in _streams(file):
        kinds |= kinds_in(stream, packages)
    return kinds


def kinds_in(stream: bytes | mmap.mmap, packages: Collection[str] = ()) -> set[str]:
    """Return the own classes and functions that unpickling would import, see `pickled_kinds`."""
    modules, named, again = set[str](), set[tuple[str, str]](), set[str]()
    for found in GLOBAL.finditer(stream):
        module, name, named_again, old_module, old_name = (str(part or b"", "ascii") for part in found.groups())
        if named_again:
            again.add(named_again.partition(".")[0])
        elif is_own(module or old_module, frozenset(packages)):
            modules.add(module or old_module)
            named.add((module or old_module, (name or old_name).partition(".")[0]))
    named |= {(module, name) for module in modules for name in again if name in source_of(module).bindings}
    return {f"{module}:{name}" for module, name in named}


def _streams(file: Path) -> Iterator[bytes | mmap.mmap]:
    with file.open("rb") as opened:
        head = opened.read(6)
        if head[:1] == b"\x80":
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped
        elif head.startswith(b"PK\3\4"):  # as `torch.save` writes it
            with suppress(zipfile.BadZipFile), zipfile.ZipFile(opened) as archive:
                yield from (archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))
        else:
            for magic, decompress in COMPRESSED.items():
                if head.startswith(magic):
                    with suppress(OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
                        content = decompress(file.read_bytes())
                        yield from [content] if content[:1] == b"\x80" else []
