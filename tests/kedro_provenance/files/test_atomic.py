"""Folders and files are there whole or not at all."""

import errno
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from kedro_provenance.files.atomic import atomic_file, atomic_folder, is_full_disk
from killing import killing_environment


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder, content=b"new", **arguments):
    with atomic_folder(folder, **arguments) as draft:
        (draft / "deep").mkdir()
        (draft / "deep/file").write_bytes(content)


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path):
    folder = tmp_path / "new/parents/folder"
    with atomic_folder(folder) as draft:
        (draft / "file").write_bytes(b"new")
        assert draft.parts[-2:] == ("parents", "folder")
        assert not folder.exists()
    assert files(tmp_path) == {"new/parents/folder/file": b"new"}
    assert names(folder.parent) == ["folder"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_may_be_read_by_whom_the_umask_lets(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_folder(tmp_path / "folder") as draft:
            (draft / "deep").mkdir()
            save_file({"a": np.zeros(1)}, draft / "deep/file")  # readable by its owner alone
    finally:
        os.umask(before)
    assert (tmp_path / "folder/deep/file").stat().st_mode & 0o777 == mode


def test_a_file_is_written_or_replaced(tmp_path):
    file = tmp_path / "new/file"
    for content in (b"first", b"second"):
        atomic_file(file, content)
        assert files(tmp_path) == {"new/file": content}
    assert names(file.parent) == ["file"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_an_error_leaves_nothing(tmp_path, error):
    atomic_file(tmp_path / "file", b"old")

    def fail():
        with atomic_folder(tmp_path / "folder") as draft:
            (draft / "file").write_bytes(b"new")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert files(tmp_path) == {"file": b"old"}
    assert not hasattr(caught.value, "__notes__")


ATOMIC_FILE = "atomic_file(target, b'new' * 99)"
ATOMIC_FOLDER = "with atomic_folder(target) as draft: (draft / 'file').write_bytes(b'new'); os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("save", "kill_at", "is_there"),
    [(ATOMIC_FILE, "synced:1", False), (ATOMIC_FILE, "moved:1", True), (ATOMIC_FOLDER, "never:0", False)],
    ids=["file", "file that was moved", "folder"],
)
def test_what_a_kill_leaves_goes_with_the_next_folder(tmp_path, caplog, save, kill_at, is_there):
    target = tmp_path / "run/step-2"
    atomic_file(tmp_path / "run/step-1", b"old")
    code = f"from kedro_provenance.files.atomic import *\ntarget = Path({str(target)!r})\n{save}"
    environment = killing_environment(tmp_path / "killing", kill_at)
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    assert [name[:12] for name in names(target.parent)] == [".unfinished-", "step-1", *["step-2"][: int(is_there)]]
    with caplog.at_level(logging.INFO):
        write(tmp_path / "run/step-3")
    expected = {"step-1": b"old", "step-3/deep/file": b"new"} | ({"step-2": b"new" * 99} if is_there else {})
    assert files(target.parent) == expected
    assert names(target.parent) == ["step-1", *["step-2"][: int(is_there)], "step-3"]
    assert "its process ended while it wrote there" in caplog.text


def test_of_two_processes_the_first_one_makes_a_shared_folder(tmp_path):
    with atomic_folder(tmp_path / "folder", shared=True) as draft:
        write(tmp_path / "folder", b"first", shared=True)
        (draft / "file").write_bytes(b"second")
    assert files(tmp_path) == {"folder/deep/file": b"first"}


def test_a_folder_is_never_overwritten(tmp_path):
    write(tmp_path / "folder", b"first")
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path / "folder", b"second")
    assert files(tmp_path) == {"folder/deep/file": b"first"}


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for save in (lambda: write(tmp_path / "new/target"), lambda: atomic_file(tmp_path / "new/target", b"new")):
        with pytest.raises(OSError, match="No space left") as caught:
            save()
        (note,) = caught.value.__notes__
        assert note.startswith(f"The disk is full: {tmp_path}/new/target needs more than the ")
        assert note.endswith("Nothing half written was left, and earlier versions are untouched.")
        assert files(tmp_path) == {}


def test_a_full_disk_is_recognised_in_what_it_led_to():
    def caused_by(cause):
        try:
            raise RuntimeError("could not save") from cause
        except RuntimeError as error:
            return error

    assert is_full_disk(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert is_full_disk(caused_by(ValueError("Error while serializing: I/O error: No space left (os error 28)")))
    assert not is_full_disk(caused_by(OSError(errno.EACCES, "Permission denied")))
    assert not is_full_disk(None)
