"""The server from which `forked` has its processes: one of all processes that test, as it takes 10 s to start."""

import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

SERVER = "RECLORA_TEST_FORK_SERVER"  # variable with the server's address


def start_server() -> None:
    """Start a server, which ends with this process; processes that this one starts join it."""
    forkserver.set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where `preloaded` is found
        forkserver.ensure_running()
    os.environ[SERVER] = forkserver._forkserver._forkserver_address


def join_server() -> None:
    """Have this process ask the server for processes; start one if there is none."""
    server = forkserver._forkserver
    if not server._forkserver_address:  # which its own processes have
        if SERVER not in os.environ:
            start_server()
            return
        server._forkserver_address, server._forkserver_alive_fd = os.environ[SERVER], os.open(os.devnull, os.O_RDONLY)
    server.ensure_running = lambda: None
