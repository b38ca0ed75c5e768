"""Groups of processes on this machine."""

import time
from functools import partial
from pathlib import Path

import pytest

from forked import FORKED, execute
from reclora_kedro.distributed.group import train_in_processes

WAIT = "import os, pathlib, time; pathlib.Path({folder!r}, str(os.getpid())).touch(); time.sleep(600)"
TRAIN = """
from functools import partial
from torch import multiprocessing
from forked import execute
from reclora_kedro.distributed.group import train_in_processes
multiprocessing.spawn = partial(multiprocessing.start_processes, start_method="fork")
train_in_processes(partial(execute, {work!r}), 2, "Training")
"""


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
    parent = FORKED.Process(target=exec, args=(TRAIN.format(work=WAIT.format(folder=str(tmp_path))),))
    parent.start()
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    members = [int(file.name) for file in tmp_path.iterdir()]
    parent.kill()
    parent.join(timeout=120)
    until(lambda: not any(map(is_running, members)))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_groups")
def test_the_reason_of_the_first_failure_is_told():
    fail = partial(execute, "raise OSError('the disk is full')")
    with pytest.raises(RuntimeError, match="Training in 2 processes failed: OSError: the disk is full"):
        train_in_processes(fail, 2, "Training")
