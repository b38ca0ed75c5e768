"""Processes that were killed, their scratch folders and their children."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kedro_provenance.files import lifetime
from kedro_provenance.files.scratch import OWN, remove_abandoned, scratch_folder


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    code = (
        "import sys; from kedro_provenance.files.scratch import scratch_folder;"
        f"folder = scratch_folder({str(tmp_path)!r}); print(folder.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        folder = Path(made.stdout.readline().strip())
        remove_abandoned(str(tmp_path))
        assert folder.is_dir()  # its process lives
        made.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    with scratch_folder(str(tmp_path)) as own:
        assert [str(path) for path in tmp_path.iterdir()] == [own]
        assert f"-{os.getpid()}-" in own
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lives", [True, False])
def test_a_process_whose_parent_died_while_it_started_ends(monkeypatch, lives):
    ended = []
    monkeypatch.setattr(lifetime.ctypes, "CDLL", lambda name: SimpleNamespace(prctl=lambda *_: 0))
    monkeypatch.setattr(lifetime, "parent_process", lambda: SimpleNamespace(is_alive=lambda: lives))
    monkeypatch.setattr(signal, "raise_signal", ended.append)
    lifetime.end_with_parent()
    assert ended == [signal.SIGTERM] * (not lives)


def test_folders_of_others_are_left_alone(tmp_path):
    for name in ("reclora-elsewhere-1-x", "reclora-kedro", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{OWN}99999999-x").symlink_to("gone")  # as a folder is that its owner removes now
    remove_abandoned(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
