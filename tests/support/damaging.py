"""Folders with one damaged file each, as disks, copies and people leave them."""

import shutil

import numpy as np
from safetensors.numpy import load_file, save_file


def damaged_folders(folder, target, flips=True):
    """Yield the name of each file, and a copy of its folder in which it alone is damaged, by every kind of damage.

    Args:
        flips: whether single bytes change, too.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for kind in (
            "truncated",
            "emptied",
            "removed",
            "replaced",
            *(["flipped", "flipped at the end"] if flips else []),
        ):
            yield str(file.relative_to(folder)), _damaged(folder, target, file, kind)
        if file.suffix == ".safetensors" and any(values.dtype == np.float32 for values in load_file(file).values()):
            yield str(file.relative_to(folder)), _damaged(folder, target, file, "not finite")


def _damaged(folder, target, file, kind):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    copy = target / file.relative_to(folder)
    content = bytearray(copy.read_bytes())
    if kind == "removed":
        copy.unlink()
    elif kind == "not finite":
        arrays = load_file(copy)
        save_file({name: _without_numbers(values) for name, values in arrays.items()}, copy)
    elif kind == "replaced":
        copy.write_bytes(b"{}" if copy.suffix == ".json" else b"another file")
    else:
        if kind.startswith("flipped"):
            content[-2 if kind == "flipped at the end" else len(content) // 2] ^= 1
        copy.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"" if kind == "emptied" else content)
    return target


def _without_numbers(values):
    return np.full_like(values, np.nan) if np.issubdtype(values.dtype, np.floating) else values
