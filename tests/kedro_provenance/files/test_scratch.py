"""Processes that were killed, their scratch folders and their children."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

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


def test_the_child_of_a_killed_process_ends():
    code = (
        "import os; from concurrent.futures import ProcessPoolExecutor; from multiprocessing import get_context;"
        "from kedro_provenance.files.scratch import end_with_parent;"
        "pool = ProcessPoolExecutor(1, get_context('spawn'), initializer=end_with_parent);"
        "print(pool.submit(os.getpid).result(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    child.wait(10)


def test_folders_of_others_are_left_alone(tmp_path):
    for name in ("reclora-elsewhere-1-x", "reclora-kedro", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{OWN}99999999-x").symlink_to("gone")  # as a folder is that its owner removes now
    remove_abandoned(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
