"""Groups of processes on this machine."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from reclora_kedro.distributed.group import train_in_processes

WAIT = "import os, pathlib, time; pathlib.Path({folder!r}, str(os.getpid())).touch(); time.sleep(600)"


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(process):
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_processes_end_with_their_parent(tmp_path):
    work = WAIT.format(folder=str(tmp_path))
    code = (
        "from functools import partial; from reclora_kedro.distributed.group import train_in_processes;"
        f"train_in_processes(partial(exec, {work!r}), 2, 'Training')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    members = [int(file.name) for file in tmp_path.iterdir()]
    parent.kill()
    parent.wait(timeout=120)
    until(lambda: not any(map(is_running, members)))


@pytest.mark.slow
def test_the_reason_of_the_first_failure_is_told():
    fail = partial(exec, "raise OSError('the disk is full')")
    with pytest.raises(RuntimeError, match="Training in 2 processes failed: OSError: the disk is full"):
        train_in_processes(fail, 2, "Training")
