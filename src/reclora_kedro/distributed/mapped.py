"""Values whose large arrays are in a file, which processes of this machine map and so have in memory once."""

import mmap
import pickle
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import numpy as np

LEAST_BYTES = 2**16  # of an array in the file; smaller ones are pickled
ALIGNMENT = 64  # bytes

Place = tuple[str, int, int]  # path of a file, first byte of an array in it, and the byte after its last one

_files: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()  # that this process has mapped, by path


def write(value: Any, folder: Path) -> None:
    """Write a value to an empty folder, for `read`; arrays that were read from another folder stay there."""
    path, places = folder / "arrays", list[Place]()
    with path.open("wb") as file:

        def keep(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < LEAST_BYTES:
                return True  # pickle it
            places.append(_place(raw) or _append(raw, file))
            return False

        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=keep)
    with (folder / "value").open("wb") as file:
        pickle.dump((places, content), file)


def read(folder: Path) -> Any:
    """Return the value of a folder that this machine wrote; its large arrays are read-only, and in files."""
    with (folder / "value").open("rb") as file:
        places, content = pickle.load(file)
    files = {path: _mapped(path) for path, *_ in places}
    return pickle.loads(content, buffers=[files[path][start:end] for path, start, end in places])


def _mapped(path: str) -> memoryview:
    memory = _files.get(path)
    if memory is None:
        with Path(path).open("rb") as file:
            memory = _files[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(memory)


def _append(raw: memoryview, file: BinaryIO) -> Place:
    file.write(bytes(-file.tell() % ALIGNMENT))
    start = file.tell()
    file.write(raw)
    return file.name, start, file.tell()


def _place(raw: memoryview) -> Place | None:
    """Return where bytes are in a file that this process has mapped; None if they are in none."""
    address = _address(raw)
    for path, memory in _files.items():
        start = address - _address(memory)
        if 0 <= start < len(memory):
            return path, start, start + raw.nbytes
    return None


def _address(buffer: memoryview | mmap.mmap) -> int:
    return np.frombuffer(buffer, np.uint8).ctypes.data
