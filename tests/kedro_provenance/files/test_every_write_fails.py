"""Each system call of each write fails once: what is there afterwards is whole, the old or the new."""

import errno
import io
import json
import os
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from kedro.io import DatasetError

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.atomic import UNFINISHED, atomic_file, atomic_folder, remove_folder

CALLS = ((os, ("open", "mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "scandir")), (io, ("open",)))
VERSION = "2026-01-01T00.00.00.000Z"


class Faults:
    """Lets the n-th of the calls fail."""

    def __init__(self, patch, code):
        self.left, self.code = 0, code
        for module, names in CALLS:
            for name in names:
                patch.setattr(module, name, self.failing(getattr(module, name)))

    def failing(self, call):
        def called(*arguments, **named):
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code))
            return call(*arguments, **named)

        return called


def old_file(folder):
    (folder / "saved").write_bytes(b"old" * 9)


def new_file(folder):
    atomic_file(folder / "saved", b"new" * 9)


def new_folder(folder):
    with atomic_folder(folder / "parents/saved") as draft:
        (draft / "a").write_bytes(b"new")
        (draft / "b").write_bytes(b"new")


def removed_folder(folder):
    remove_folder(folder / "parents/saved")


def new_version(folder):
    save_version(folder, "json.JSONDataset", {"rows": [1, 2, 3]})


def save_version(folder, kind, data, **arguments):
    entry = {"type": kind, "filepath": str(folder / "entry"), "versioned": True, **arguments}
    AtomicCatalog.from_config({"entry": entry}, save_version=VERSION).save("entry", data)


def state(folder):
    """What readers see: files that are not hidden, by path; of a version, whether it has its recipe and data."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and UNFINISHED not in str(path)
    }


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("before", "write"),
    [
        (lambda folder: None, new_file),
        (old_file, new_file),
        (lambda folder: None, new_folder),
        (new_folder, removed_folder),
        (lambda folder: None, new_version),
    ],
    ids=["file", "replaced file", "folder", "removed folder", "version"],
)
def test_nothing_half_written_is_left_whichever_call_fails(tmp_path, before, write, code):
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        before(tmp_path / name)
    write(tmp_path / "after")
    whole = [state(tmp_path / name) for name in ("before", "after")]
    for n in count(1):
        folder = tmp_path / str(n)
        folder.mkdir()
        before(folder)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, code)
            faults.left = n
            try:
                write(folder)
            except (OSError, DatasetError):
                failed = True
            else:
                failed = faults.left <= 0  # a call whose failure does not matter, such as a look at what was left
        assert state(folder).keys() in [each.keys() for each in whole]
        if write is not new_version:  # whose recipe tells of the moment
            assert state(folder) in whole
        else:
            assert all(json.loads(content) for content in state(folder).values())
        if not failed:
            assert state(folder).keys() == whole[1].keys()
            break
    assert n > 5


@contextmanager
def files_of_at_most(limit):
    """Have the kernel refuse what would make any file larger than some bytes, whoever writes: Python, C++ or Rust."""
    resource = pytest.importorskip("resource")  # which Windows lacks
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def new_table(folder):
    save_version(folder, "polars.EagerPolarsDataset", pl.DataFrame({"row": range(100)}), file_format="parquet")


def new_tensors(folder):
    save_version(
        folder, "kedro_datasets_experimental.safetensors.SafetensorsDataset", {"w": np.ones(100)}, backend="numpy"
    )


@pytest.mark.parametrize("write", [new_file, new_folder, new_version, new_table, new_tensors])
def test_nothing_half_written_is_left_wherever_a_write_ends(tmp_path, write):
    for number, share in enumerate((0, 0.01, 0.3, 0.6, 0.99)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "whole")
        whole = state(folder / "whole")
        most = int(share * max(map(len, whole.values())))
        with pytest.raises(Exception, match=r"File too large|os error 27|Errno 27"), files_of_at_most(most):
            write(folder / "cut")
        assert not state(folder / "cut")
        write(folder / "cut")  # as the next run does
        assert state(folder / "cut").keys() == whole.keys()


def test_folders_that_a_save_makes_are_synced_with_what_is_in_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    atomic_file(tmp_path / "one/two/file", b"new")
    assert {tmp_path, tmp_path / "one", tmp_path / "one/two"} <= {*synced}
